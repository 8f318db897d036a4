"""moeprof's own CUDA kernels: their variants, how they are built, inspected and launched."""
