// What only Hopper has, beyond device.cuh: boxes of tensors with more dimensions, and the products of
// a warpgroup. The host build puts host_hopper.hpp in its place.

// A box of a tensor map into shared memory, from the given coordinates, the fastest dimension first;
// counts its bytes on the barrier. What lies outside of the tensor is zeros, and counts too.
DEVICE void tensor_load_3d(u32 to, const TensorMap& map, int x, int y, int z, u32 barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];"
                 :: "r"(to), "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}
DEVICE void tensor_load_5d(u32 to, const TensorMap& map, int x, int y, int z, int u, int v,
                           u32 barrier) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];"
                 :: "r"(to), "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v)
                 : "memory");
}

// The compiler does not know that products write their sums until warpgroup_wait: after that, this
// keeps it from having read them before.
template <int SIZE>
DEVICE void warpgroup_settle(float (&d)[SIZE]) {
    UNROLL for (int i = 0; i < SIZE; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
}

// warpgroup_mma_bf16 and warpgroup_mma_fp8: d[64, N] = a[64, k] * b[N, k]^T, plus d if `accumulate`;
// k is 16 or 32 (32 bytes), a and b are descriptors of K-major tiles in shared memory, N is twice
// the size of d. Thread (warp w, g = lane / 4, t = lane % 4) holds in d[4j + 2i + c] row
// 16w + 8i + g, column 8j + 2t + c (PTX ISA, wgmma register fragments).
#define SUMS_8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
                  "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_16(i) SUMS_8(i), SUMS_8(i + 8)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)
#define SUMS_64(i) SUMS_32(i), SUMS_32(i + 32)
#define NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define NAMES_16 NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32 NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, " \
                          "%24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64 NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, " \
                          "%40, %41, %42, %43, %44, %45, %46, %47, " \
                          "%48, %49, %50, %51, %52, %53, %54, %55, " \
                          "%56, %57, %58, %59, %60, %61, %62, %63"
// SIZE sums of N = 2 * SIZE columns; A, B, P are the numbers of the operands after them.
#define WARPGROUP_MMA(NAME, SHAPE, LAYOUT, SIZE, A, B, P) \
    DEVICE void NAME(float (&d)[SIZE], u64 a, u64 b, bool accumulate) { \
        const u32 add = accumulate; \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P ", 0;\n" \
                     "wgmma.mma_async.sync.aligned." SHAPE " {" NAMES_##SIZE "}, " A ", " B \
                     ", p, 1, 1" LAYOUT ";\n}" \
                     : SUMS_##SIZE(0) : "l"(a), "l"(b), "r"(add) : "memory"); \
    }
#define WARPGROUP_MMAS(N, SIZE, A, B, P) \
    WARPGROUP_MMA(warpgroup_mma_bf16, "m64n" N "k16.f32.bf16.bf16", ", 0, 0", SIZE, A, B, P) \
    WARPGROUP_MMA(warpgroup_mma_fp8, "m64n" N "k32.f32.e4m3.e4m3", "", SIZE, A, B, P)

WARPGROUP_MMAS("16", 8, "%8", "%9", "%10")
WARPGROUP_MMAS("32", 16, "%16", "%17", "%18")
WARPGROUP_MMAS("64", 32, "%32", "%33", "%34")
WARPGROUP_MMAS("128", 64, "%64", "%65", "%66")
