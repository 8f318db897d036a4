"""A simulated GPU in virtual time, whose physics and sensor faults are known exactly."""
