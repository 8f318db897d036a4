"""MoE layers and models, how tokens fall on experts and experts on GPUs, as plain data."""
