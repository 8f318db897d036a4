// Joins the parts of mla_decode.cu: a block of 128 threads per (request, head), 4 columns a thread.

// Shapes: moeprof/kernel/cuda/mla.py, which lays out the same structure.
struct MlaCombineArguments {
    const float* partials;
    const float* statistics;
    u16* outputs;
    int num_heads;
    int num_splits;
};

constexpr int LATENT = 512;
constexpr u32 ALL_LANES = 0xFFFFFFFF;

KERNEL(128, 8) mla_combine(PARAMETER MlaCombineArguments a) {
    const int lane = threadIdx.x % 32, request = blockIdx.x / a.num_heads;
    const int head = blockIdx.x % a.num_heads;
    const u64 first_row = static_cast<u64>(request) * a.num_splits * a.num_heads + head;
    const float* maxima = a.statistics + first_row * 2;
    const int step = a.num_heads * 2;  // from a split's maximum to the next one's; its sum follows

    float maximum = __uint_as_float(0xFF800000);
    NO_UNROLL
    for (int split = lane; split < a.num_splits; split += 32) {
        maximum = fmaxf(maximum, maxima[split * step]);
    }
    UNROLL
    for (int i = 16; i > 0; i /= 2) {
        maximum = fmaxf(maximum, __shfl_xor_sync(ALL_LANES, maximum, i));
    }
    float total = 0.0f;
    NO_UNROLL
    for (int split = lane; split < a.num_splits; split += 32) {
        const float sum = maxima[split * step + 1];
        if (sum > 0.0f) total += exp2_fast(maxima[split * step] - maximum) * sum;
    }
    UNROLL
    for (int i = 16; i > 0; i /= 2) total += __shfl_xor_sync(ALL_LANES, total, i);

    const float* column = a.partials + first_row * LATENT + threadIdx.x * 4;
    float4 out = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    _Pragma("unroll 8")
    for (int split = 0; split < a.num_splits; ++split) {
        const float weight = exp2_fast(maxima[split * step] - maximum);
        const uint4 v = load_streaming_16(column + static_cast<u64>(split) * a.num_heads * LATENT);
        // A split without tokens has a weight of zero, and anything at all in its place.
        const bool any = weight > 0.0f;
        out.x += any ? weight * __uint_as_float(v.x) : 0.0f;
        out.y += any ? weight * __uint_as_float(v.y) : 0.0f;
        out.z += any ? weight * __uint_as_float(v.z) : 0.0f;
        out.w += any ? weight * __uint_as_float(v.w) : 0.0f;
    }
    const float scale = total > 0.0f ? 1.0f / total : 0.0f;
    u32* to = reinterpret_cast<u32*>(a.outputs + static_cast<u64>(blockIdx.x) * LATENT) + threadIdx.x * 2;
    to[0] = pack_bf16(out.x * scale, out.y * scale);
    to[1] = pack_bf16(out.z * scale, out.w * scale);
}
