"""Kernels timed side by side."""
