"""One door per kind of device: CUDA, CPU, simulated."""
