"""Time, energy and the condition they were measured under: one trial of one point."""
