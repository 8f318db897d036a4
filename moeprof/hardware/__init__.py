"""GPU specifications, as plain data."""
