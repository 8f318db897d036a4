"""The tiles that Triton expert kernels of serving engines take, and what follows from them."""
