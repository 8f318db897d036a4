// Reads a buffer once and keeps one word of it per block: how fast memory can be read at all.
//
// Blocks have 256 threads and stay for the whole buffer. A warp reads 4 KiB at a time, in eight
// 16-byte loads per lane that are all under way before the first is used. Neighbouring blocks read
// neighbouring 4 KiB, so that what is left for the last round is spread over all multiprocessors.

// `from` is 16-byte aligned; `outputs` has a word per block.
struct ReadOnlyArguments {
    const u8* from;
    u32* outputs;
    u64 num_bytes;  // a multiple of 16
};

constexpr int THREADS = 256, LOADS = 8, RUN = LOADS * 32;  // a warp's 16-byte pieces at a time

KERNEL(THREADS, 4) read_only(PARAMETER ReadOnlyArguments a) {
    SHARED_MEMORY(memory);
    const u32 words = shared_address(memory), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u64 num_pieces = a.num_bytes / 16, num_runs = num_pieces / RUN;
    const u64 reader = static_cast<u64>(warp) * gridDim.x + blockIdx.x;
    const u64 num_readers = static_cast<u64>(gridDim.x) * (THREADS / 32);
    u32 folded = 0;
    NO_UNROLL
    for (u64 run = reader; run < num_runs; run += num_readers) {
        const u8* from = a.from + (run * RUN + lane) * 16;
        uint4 v[LOADS];
        UNROLL
        for (int i = 0; i < LOADS; ++i) v[i] = load_streaming_16(from + i * 512);
        UNROLL
        for (int i = 0; i < LOADS; ++i) folded ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
    }
    // Less than a run is left, and falls to one reader: with bounds in the loop above the compiler
    // would wait for one load before the next.
    if (reader == num_runs % num_readers) {
        for (u64 piece = num_runs * RUN + lane; piece < num_pieces; piece += 32) {
            const uint4 v = load_streaming_16(a.from + piece * 16);
            folded ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    }
    UNROLL
    for (int i = 16; i > 0; i /= 2) folded ^= __shfl_xor_sync(0xFFFFFFFF, folded, i);
    if (lane == 0) store_shared_float(words + warp * 4, __uint_as_float(folded));
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 all = 0;
        for (int i = 0; i < THREADS / 32; ++i) {
            all ^= __float_as_uint(load_shared_float(words + i * 4));
        }
        a.outputs[blockIdx.x] = all;
    }
}
