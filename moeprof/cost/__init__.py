"""What decode steps cost: points, the fitted model of seconds and joules, and its judges."""
