// What the kernels ask of a GPU: PTX behind plain functions, for compute capability 8.0 and newer.
//
// NVRTC compiles this file followed by one kernel file; nothing is included. The host build puts
// host_fibres.hpp and host.hpp in its place, which have the same functions in C++20, so that the
// kernels' own text runs on a CPU. Shared memory is addressed by 32-bit offsets, as PTX does. ARCH is 80, 86, 89, 90, 100,
// 103 or 120 (set by the build).

#pragma nv_diag_suppress 177  // not every kernel uses every function

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__
#define DEVICE_METHOD __device__ __forceinline__
#define KERNEL(max_threads, min_blocks) \
    extern "C" __global__ void __launch_bounds__(max_threads, min_blocks)
#define PARAMETER const __grid_constant__
#define SHARED_MEMORY(name) extern __shared__ __align__(1024) u8 name[]
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")

// ---- shared memory, addressed by offset -----------------------------------------------------

DEVICE u32 shared_address(const void* pointer) {
    return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

DEVICE uint4 load_shared_16(u32 address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
    return v;
}

DEVICE void store_shared_16(u32 address, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

DEVICE float load_shared_float(u32 address) {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(address) : "memory");
    return v;
}

DEVICE void store_shared_float(u32 address, float v) {
    asm volatile("st.shared.f32 [%0], %1;" :: "r"(address), "f"(v) : "memory");
}

// Four 8x8 matrices of 16-bit values: lanes 8i..8i+7 give the addresses of matrix i's rows; lane
// (g = lane / 4, t = lane % 4) gets the 4 bytes at offset 4t of row g of each (PTX ISA, ldmatrix).
DEVICE void load_matrix_x4(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// ---- asynchronous 16-byte copies ------------------------------------------------------------

// 16 bytes from global to shared memory, past the L1 cache; zeros where not `valid`.
DEVICE void copy_async_16(u32 to, const void* from, bool valid) {
    const u32 bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(from), "r"(bytes) : "memory");
}

DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Returns once all but the newest PENDING groups of this thread have arrived.
template <int PENDING>
DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

// ---- global memory --------------------------------------------------------------------------

// Read once, by nobody else: past the L1 cache.
DEVICE uint4 load_streaming_16(const void* from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

// What other blocks of the same launch may have written: from L2, never from a stale L1 line.
DEVICE uint4 load_fresh_16(const void* from) {
    uint4 v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}

DEVICE float load_fresh_float(const float* from) {
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
    return v;
}

DEVICE void prefetch_to_l2(const void* line) {
    asm volatile("prefetch.global.L2 [%0];" :: "l"(line));
}

DEVICE u32 load_acquire(const u32* from) {
    u32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
    return v;
}

DEVICE void store_relaxed(u32* to, u32 value) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(to), "r"(value) : "memory");
}

// Adds and returns what was there before. What this thread saw or wrote before is visible to who
// sees the sum, and the other way round.
DEVICE u32 add_acquire_release(u32* to, u32 value) {
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(before) : "l"(to), "r"(value) : "memory");
    return before;
}

DEVICE void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// For loops that wait for another thread.
DEVICE void relax() { asm volatile("nanosleep.u32 20;" ::: "memory"); }

// ---- numbers --------------------------------------------------------------------------------

DEVICE float from_bf16(u16 v) { return __uint_as_float(static_cast<u32>(v) << 16); }

// Rounds to nearest even; `low` in the lower half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    return v;
}

DEVICE u16 to_bf16(float v) { return static_cast<u16>(pack_bf16(v, 0.0f)); }

#if ARCH >= 89
// Rounds to nearest even, saturates at 448; `a` in the lowest byte.
DEVICE u32 pack_e4m3(float a, float b, float c, float d) {
    u16 low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
    return static_cast<u32>(low) | (static_cast<u32>(high) << 16);
}
#else
DEVICE u32 e4m3_bits(float v) {
    // Adding 2^20 * (the weight of the lowest kept bit) leaves the rounded mantissa at the bottom.
    if (v != v) return 0x7F;
    const u32 bits = __float_as_uint(v), sign = (bits >> 24) & 0x80;
    const float size = fminf(fabsf(v), 448.0f);
    const u32 exponent = max(__float_as_uint(size) >> 23, 121u);  // 2^-6: below it, subnormals
    const float step = __uint_as_float((exponent - 3 + 23) << 23);
    const u32 units = __float_as_uint(size + step) - __float_as_uint(step);  // of 2^(exponent - 3)
    return sign | (((exponent - 121) << 3) + units);
}
DEVICE u32 pack_e4m3(float a, float b, float c, float d) {
    return e4m3_bits(a) | (e4m3_bits(b) << 8) | (e4m3_bits(c) << 16) | (e4m3_bits(d) << 24);
}
#endif

// ---- matrix products of one warp, fp32 accumulators ------------------------------------------
// Lane (g, t) holds: a[0] row g, a[1] row g + 8, both the first half of k; a[2], a[3] the second
// half; b[0], b[1] column g, first and second half of k; each register the values 2t, 2t + 1 (bf16)
// or 4t..4t + 3 (fp8) of its half; d[0], d[1] row g, columns 2t, 2t + 1; d[2], d[3] row g + 8
// (PTX ISA, matrix fragments of mma.m16n8k16 and m16n8k32).

// d += a[16, 16] * b[16, 8], bf16.
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#if ARCH >= 89
// d += a[16, 32] * b[32, 8], e4m3.
DEVICE void mma_fp8(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
// Two of four e4m3 values (bytes 2i and 2i + 1) as fp16, exactly: exponent and mantissa move to
// their places, which leaves 2^-8 of the value, subnormals included.
DEVICE u32 fp16_of_e4m3(u32 four, int i) {
    const u32 two = i ? four >> 16 : four;
    const u32 spread = (two & 0xFF) | ((two & 0xFF00) << 8);
    const u32 small = ((spread & 0x00800080) << 8) | ((spread & 0x007F007F) << 7);
    u32 v;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(v) : "r"(small), "r"(0x5C005C00u));  // 2^8, twice
    return v;
}
DEVICE void mma_fp16(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// d += a[16, 32] * b[32, 8], e4m3, as two products of fp16: which k meets which does not matter as
// long as a and b agree.
DEVICE void mma_fp8(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    mma_fp16(d, fp16_of_e4m3(a[0], 0), fp16_of_e4m3(a[1], 0), fp16_of_e4m3(a[0], 1),
             fp16_of_e4m3(a[1], 1), fp16_of_e4m3(b[0], 0), fp16_of_e4m3(b[0], 1));
    mma_fp16(d, fp16_of_e4m3(a[2], 0), fp16_of_e4m3(a[3], 0), fp16_of_e4m3(a[2], 1),
             fp16_of_e4m3(a[3], 1), fp16_of_e4m3(b[1], 0), fp16_of_e4m3(b[1], 1));
}
#endif

DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// gate / (1 + exp(-gate)) * up
DEVICE float swiglu(float gate, float up) {
    return gate / (1.0f + exp2_fast(-1.44269504f * gate)) * up;
}

// ---- Hopper: barriers in shared memory, the bulk copy engine, warpgroup products ---------------
#if ARCH == 90

DEVICE void barrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals));
}
// After the inits, by the thread that made them: the copy engine sees the barriers.
DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(barrier) : "memory");
}
// Arrives, and lets the phase end only after the copy engine has brought `bytes` more.
DEVICE void barrier_arrive_expecting(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 :: "r"(barrier), "r"(bytes) : "memory");
}
// Returns once the phase of this parity (0 for the first) has ended.
DEVICE void barrier_wait(u32 barrier, u32 parity) {
    u32 done = 0;
    while (!done) {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    }
}

struct alignas(64) TensorMap { u64 opaque[16]; };  // CUtensorMap

DEVICE void tensor_prefetch(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" :: "l"(&map) : "memory");
}

// By each thread that wrote shared memory, before others let the tensor cores read it.
DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

template <int REGISTERS>
DEVICE void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(REGISTERS)); }
template <int REGISTERS>
DEVICE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(REGISTERS)); }

// A barrier among `threads` threads of the block; `which` is 1..15.
DEVICE void named_barrier(u32 which, u32 threads) {
    asm volatile("bar.sync %0, %1;" :: "r"(which), "r"(threads) : "memory");
}

// A tile of 128-byte rows in the 128-byte swizzle: 8 rows make 1024 bytes, 16-byte piece p of row r
// lies at p ^ (r % 8) (PTX ISA, "Shared memory matrix layout", matrix descriptor).
DEVICE u64 swizzled_tile(u32 address) {
    const u64 start = (address & 0x3FFFF) >> 4, stride = 1024 >> 4;
    return start | (1ull << 16) | (stride << 32) | (1ull << 62);
}

DEVICE void warpgroup_arrive() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
DEVICE void warpgroup_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(PENDING) : "memory"); }

#endif
