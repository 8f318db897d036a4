"""Warm-up and temperature hold: a device brought to a known state, and kept there."""
