"""Kernels held against float64: whether what they compute is right, before how fast it is."""
