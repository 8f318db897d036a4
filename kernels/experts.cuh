// What the expert kernels are given and how they find their work; stands after device.cuh.

// Shapes and formats: moeprof/kernel/cuda/arguments.py, which lays out the same structure.
struct ExpertArguments {
    const u8* tokens;
    const u8* gate_up;
    const u8* down;
    const float* gate_up_scales;
    const float* down_scales;
    const int* row_ends;
    const int* row_tokens;
    const float* row_weights;
    const int* token_rows;
    u8* hidden;
    float* row_outputs;
    u16* outputs;
    float* partials;
    u32* counters;
    int num_experts;
    int num_tokens;
    int top_k;
    int hidden_size;
    int expert_size;
    int num_rows;
};
