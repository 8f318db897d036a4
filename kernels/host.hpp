// What device.cuh gives a kernel, in C++20 for a CPU, so that its own text runs without a GPU. The
// host build puts this file, after host_fibres.hpp, in device.cuh's place
// (moeprof/kernel/cuda/host.py). Meanings of what is not CUDA's own are in device.cuh; `ARCH` is 80
// unless it is set, and decides nothing here.

#ifndef ARCH
#define ARCH 80
#endif

#define DEVICE static inline
#define DEVICE_METHOD inline
#define KERNEL(max_threads, min_blocks) \
    MOEPROF_HOST_BOUNDS(__COUNTER__, max_threads) extern "C" void
#define PARAMETER const
#define SHARED_MEMORY(name) [[maybe_unused]] u8* const name = moeprof_host::current->block->shared
#define UNROLL
#define NO_UNROLL

#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

constexpr uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
constexpr uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
constexpr int2 make_int2(int x, int y) { return {x, y}; }
constexpr int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
constexpr float2 make_float2(float x, float y) { return {x, y}; }
constexpr float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
constexpr ulonglong2 make_ulonglong2(u64 x, u64 y) { return {x, y}; }

// ---- what CUDA itself has ---------------------------------------------------------------------

#define threadIdx (moeprof_host::current->thread)
#define blockIdx (moeprof_host::current->block->index)
#define blockDim (moeprof_host::block_size)
#define gridDim (moeprof_host::grid_size)
constexpr int warpSize = 32;

DEVICE void __syncthreads(MOEPROF_SITE) {
    moeprof_host::block_barrier(0, 0, "__syncthreads", site);
}
DEVICE int __syncthreads_count(int vote, MOEPROF_SITE) {
    return static_cast<int>(
        moeprof_host::block_barrier(0, 0, "__syncthreads_count", site, vote != 0));
}
DEVICE int __syncthreads_or(int vote, MOEPROF_SITE) {
    return moeprof_host::block_barrier(0, 0, "__syncthreads_or", site, vote != 0) != 0;
}
DEVICE int __syncthreads_and(int vote, MOEPROF_SITE) {
    return moeprof_host::block_barrier(0, 0, "__syncthreads_and", site, vote == 0) == 0;
}

DEVICE void __syncwarp(u32 mask = moeprof_host::ALL_LANES, MOEPROF_SITE) {
    int none = 0;
    moeprof_host::warp_collective("__syncwarp", mask, false, none, [](int* (&)[32]) {}, site);
}

namespace moeprof_host {

template <class T>
struct Shuffle {
    T value;
    int from;  // the lane to read; what is not in the mask reads as poison
    T result;
};

template <class T>
inline T shuffle(const char* what, u32 mask, T value, int from, const Site& site) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    Shuffle<T> mine{value, from, {}};
    warp_collective(what, mask, false, mine, [](Shuffle<T>* (&lanes)[32]) {
        for (Shuffle<T>* lane : lanes) {
            if (!lane) continue;
            const Shuffle<T>* const source = lanes[lane->from & 31];
            if (source) lane->result = source->value;
            else poison(&lane->result, sizeof(T));
        }
    }, site);
    return mine.result;
}

template <class Join>
inline u32 reduce(const char* what, u32 mask, u32 value, Join join, const Site& site) {
    warp_collective(what, mask, false, value, [join](u32* (&lanes)[32]) {
        u32 all = 0;
        bool first = true;
        for (const u32* lane : lanes)
            if (lane) { all = first ? *lane : join(all, *lane); first = false; }
        for (u32* lane : lanes)
            if (lane) *lane = all;
    }, site);
    return value;
}

inline u32 ballot(const char* what, u32 mask, bool vote, const Site& site) {
    const u32 bit = vote ? 1u << current->lane : 0;
    return reduce(what, mask, bit, [](u32 a, u32 b) { return a | b; }, site);
}

inline int lane_of() { return static_cast<int>(current->lane); }

}  // namespace moeprof_host

// Segments of `width` lanes; a source outside of the caller's segment is the caller itself
// (PTX ISA, shfl.sync).
template <class T>
DEVICE T __shfl_sync(u32 mask, T value, int source, int width = 32, MOEPROF_SITE) {
    const int lane = moeprof_host::lane_of(), start = lane & ~(width - 1);
    return moeprof_host::shuffle("__shfl_sync", mask, value, start + (source & (width - 1)), site);
}
template <class T>
DEVICE T __shfl_xor_sync(u32 mask, T value, int bits, int width = 32, MOEPROF_SITE) {
    const int lane = moeprof_host::lane_of(), from = lane ^ bits;
    const bool reachable = from < (lane & ~(width - 1)) + width;
    return moeprof_host::shuffle("__shfl_xor_sync", mask, value, reachable ? from : lane, site);
}
template <class T>
DEVICE T __shfl_down_sync(u32 mask, T value, u32 by, int width = 32, MOEPROF_SITE) {
    const int lane = moeprof_host::lane_of(), from = lane + static_cast<int>(by);
    const bool reachable = from < (lane & ~(width - 1)) + width;
    return moeprof_host::shuffle("__shfl_down_sync", mask, value, reachable ? from : lane, site);
}
template <class T>
DEVICE T __shfl_up_sync(u32 mask, T value, u32 by, int width = 32, MOEPROF_SITE) {
    const int lane = moeprof_host::lane_of(), from = lane - static_cast<int>(by);
    const bool reachable = from >= (lane & ~(width - 1));
    return moeprof_host::shuffle("__shfl_up_sync", mask, value, reachable ? from : lane, site);
}

DEVICE u32 __ballot_sync(u32 mask, int vote, MOEPROF_SITE) {
    return moeprof_host::ballot("__ballot_sync", mask, vote != 0, site);
}
DEVICE int __any_sync(u32 mask, int vote, MOEPROF_SITE) {
    return moeprof_host::ballot("__any_sync", mask, vote != 0, site) != 0;
}
DEVICE int __all_sync(u32 mask, int vote, MOEPROF_SITE) {
    return moeprof_host::ballot("__all_sync", mask, vote == 0, site) == 0;
}
DEVICE u32 __reduce_add_sync(u32 mask, u32 value, MOEPROF_SITE) {
    return moeprof_host::reduce("__reduce_add_sync", mask, value,
                                [](u32 a, u32 b) { return a + b; }, site);
}
DEVICE u32 __reduce_or_sync(u32 mask, u32 value, MOEPROF_SITE) {
    return moeprof_host::reduce("__reduce_or_sync", mask, value,
                                [](u32 a, u32 b) { return a | b; }, site);
}
DEVICE u32 __reduce_xor_sync(u32 mask, u32 value, MOEPROF_SITE) {
    return moeprof_host::reduce("__reduce_xor_sync", mask, value,
                                [](u32 a, u32 b) { return a ^ b; }, site);
}
DEVICE u32 __reduce_max_sync(u32 mask, u32 value, MOEPROF_SITE) {
    return moeprof_host::reduce("__reduce_max_sync", mask, value,
                                [](u32 a, u32 b) { return std::max(a, b); }, site);
}

template <class T>
DEVICE T atomicAdd(T* to, std::type_identity_t<T> value, MOEPROF_SITE) {
    const auto add = [=](T v) { return static_cast<T>(v + value); };
    return moeprof_host::change(to, add, "atomicAdd", site);
}
template <class T>
DEVICE T atomicMax(T* to, std::type_identity_t<T> value, MOEPROF_SITE) {
    static_assert(std::is_integral_v<T>, "CUDA has no atomicMax of floats");
    return moeprof_host::change(to, [=](T v) { return std::max(v, value); }, "atomicMax", site);
}
template <class T>
DEVICE T atomicMin(T* to, std::type_identity_t<T> value, MOEPROF_SITE) {
    static_assert(std::is_integral_v<T>, "CUDA has no atomicMin of floats");
    return moeprof_host::change(to, [=](T v) { return std::min(v, value); }, "atomicMin", site);
}
template <class T>
DEVICE T atomicOr(T* to, std::type_identity_t<T> value, MOEPROF_SITE) {
    return moeprof_host::change(to, [=](T v) { return v | value; }, "atomicOr", site);
}
template <class T>
DEVICE T atomicXor(T* to, std::type_identity_t<T> value, MOEPROF_SITE) {
    return moeprof_host::change(to, [=](T v) { return v ^ value; }, "atomicXor", site);
}
template <class T>
DEVICE T atomicExch(T* to, std::type_identity_t<T> value, MOEPROF_SITE) {
    return moeprof_host::change(to, [=](T) { return value; }, "atomicExch", site);
}
template <class T>
DEVICE T atomicCAS(T* to, std::type_identity_t<T> compare, std::type_identity_t<T> value,
                   MOEPROF_SITE) {
    const auto swap = [=](T v) { return v == compare ? value : v; };
    return moeprof_host::change(to, swap, "atomicCAS", site);
}

template <class T>
DEVICE T __ldg(const T* from, MOEPROF_SITE) {
    using moeprof_host::Access;
    moeprof_host::check_global(from, sizeof(T), alignof(T), Access::READ_CONSTANT, site);
    return *from;
}
DEVICE void __threadfence() {}
DEVICE void __threadfence_block() {}
[[noreturn]] DEVICE void __trap(MOEPROF_SITE) { moeprof_host::fail(site, "__trap"); }

DEVICE u32 __float_as_uint(float v) { return std::bit_cast<u32>(v); }
DEVICE int __float_as_int(float v) { return std::bit_cast<int>(v); }
DEVICE float __uint_as_float(u32 v) { return std::bit_cast<float>(v); }
DEVICE float __int_as_float(int v) { return std::bit_cast<float>(v); }
DEVICE int __popc(u32 v) { return std::popcount(v); }
DEVICE int __ffs(int v) { return v ? std::countr_zero(static_cast<u32>(v)) + 1 : 0; }
DEVICE int __clz(int v) { return std::countl_zero(static_cast<u32>(v)); }
DEVICE float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
DEVICE float __fadd_rn(float a, float b) { return a + b; }
DEVICE float __fmul_rn(float a, float b) { return a * b; }
DEVICE float __fdividef(float a, float b) { return a / b; }
DEVICE float __fdiv_rn(float a, float b) { return a / b; }
DEVICE float __frcp_rn(float v) { return 1.0f / v; }
// The C library keeps these names for itself.
#define __expf(v) std::exp(static_cast<float>(v))
#define __logf(v) std::log(static_cast<float>(v))
#define __log2f(v) std::log2(static_cast<float>(v))
DEVICE float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
DEVICE int __float2int_rn(float v) { return static_cast<int>(std::nearbyint(v)); }
// One of two numbers is NaN: the other (CUDA, as C's fmax).
template <class A, class B>
static constexpr std::common_type_t<A, B> max(A a, B b) {
    const std::common_type_t<A, B> left = a, right = b;
    if constexpr (std::is_floating_point_v<decltype(left)>) return std::fmax(left, right);
    else return std::max(left, right);
}
template <class A, class B>
static constexpr std::common_type_t<A, B> min(A a, B b) {
    const std::common_type_t<A, B> left = a, right = b;
    if constexpr (std::is_floating_point_v<decltype(left)>) return std::fmin(left, right);
    else return std::min(left, right);
}

namespace moeprof_host {

// ---- formats --------------------------------------------------------------------------------

inline float float_of_bf16(u16 v) { return std::bit_cast<float>(static_cast<u32>(v) << 16); }

inline u16 bf16_of(float v) {
    const u32 bits = std::bit_cast<u32>(v);
    if (v != v) return 0x7FFF;  // PTX ISA, cvt: NaN becomes the canonical NaN
    return static_cast<u16>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities (Micikevicius et al. 2022,
// arXiv 2209.05433). NaN is 0x7F, whatever its sign (PTX ISA, cvt).
inline u32 e4m3_of(float v) {
    if (v != v) return 0x7F;
    const float size = std::min(std::fabs(v), 448.0f);
    const int exponent = size == 0.0f ? -6 : std::max(std::ilogb(size), -6);
    const float units = std::nearbyint(std::ldexp(size, 3 - exponent));  // to nearest even
    return (std::signbit(v) ? 0x80 : 0) + static_cast<u32>((exponent + 6) * 8)
        + static_cast<u32>(units);
}

inline float float_of_e4m3(u32 code) {
    const int exponent = static_cast<int>(code >> 3 & 15), mantissa = static_cast<int>(code & 7);
    float size = exponent ? std::ldexp(static_cast<float>(8 + mantissa), exponent - 10)
                          : std::ldexp(static_cast<float>(mantissa), -9);
    if (exponent == 15 && mantissa == 7) size = std::bit_cast<float>(0x7FFFFFFFu);
    return code & 0x80 ? -size : size;
}

inline const std::array<float, 256> E4M3 = [] {
    std::array<float, 256> values{};
    for (u32 code = 0; code < 256; ++code) values[code] = float_of_e4m3(code);
    return values;
}();

// ---- matrix products ------------------------------------------------------------------------

struct Fragments {
    float* d;
    const u32* a;
    const u32* b;
};

// d += a[16, K] * b[K, 8] of a warp's fragments, each register holding VALUES neighbours along k
// (PTX ISA, "Matrix fragments for mma.m16n8k16" and m16n8k32); decode(register, i) is value i.
template <int K, int VALUES, class Decode>
[[gnu::noinline]] inline void multiply(Fragments* (&lanes)[32], Decode decode) {
    typedef float Half __attribute__((vector_size(16)));
    alignas(16) float a[16][K];
    alignas(16) float b[K][8];
    for (u32 lane = 0; lane < 32; ++lane) {
        const u32 g = lane / 4, k = lane % 4 * VALUES;
        const Fragments& f = *lanes[lane];
        for (u32 i = 0; i < VALUES; ++i) {
            a[g][k + i] = decode(f.a[0], i);
            a[g + 8][k + i] = decode(f.a[1], i);
            a[g][k + K / 2 + i] = decode(f.a[2], i);
            a[g + 8][k + K / 2 + i] = decode(f.a[3], i);
            b[k + i][g] = decode(f.b[0], i);
            b[k + K / 2 + i][g] = decode(f.b[1], i);
        }
    }
    for (u32 row = 0; row < 16; ++row) {
        Half low{}, high{};
        for (u32 k = 0; k < K; ++k) {
            const float v = a[row][k];
            const Half scale = {v, v, v, v};
            low += scale * *reinterpret_cast<const Half*>(&b[k][0]);
            high += scale * *reinterpret_cast<const Half*>(&b[k][4]);
        }
        for (u32 t = 0; t < 4; ++t) {
            float* const d = lanes[row % 8 * 4 + t]->d + (row < 8 ? 0 : 2);
            d[0] += t < 2 ? low[2 * t] : high[2 * t - 4];
            d[1] += t < 2 ? low[2 * t + 1] : high[2 * t - 3];
        }
    }
}

}  // namespace moeprof_host

// ---- what device.cuh adds: the same names, meanings there --------------------------------------

DEVICE u32 shared_address(const void* pointer, MOEPROF_SITE) {
    const u8* const start = moeprof_host::current->block->shared;
    const u64 offset = static_cast<u64>(static_cast<const u8*>(pointer) - start);
    if (offset > moeprof_host::shared_bytes)
        moeprof_host::fail(site, "the pointer is not to shared memory");
    return moeprof_host::SHARED_START + static_cast<u32>(offset);
}

DEVICE uint4 load_shared_16(u32 address, MOEPROF_SITE) {
    return *reinterpret_cast<const uint4*>(moeprof_host::shared_pointer(address, 16, 16, site));
}
DEVICE void store_shared_16(u32 address, uint4 v, MOEPROF_SITE) {
    *reinterpret_cast<uint4*>(moeprof_host::shared_pointer(address, 16, 16, site)) = v;
}
DEVICE float load_shared_float(u32 address, MOEPROF_SITE) {
    return *reinterpret_cast<const float*>(moeprof_host::shared_pointer(address, 4, 4, site));
}
DEVICE void store_shared_float(u32 address, float v, MOEPROF_SITE) {
    *reinterpret_cast<float*>(moeprof_host::shared_pointer(address, 4, 4, site)) = v;
}

namespace moeprof_host {
struct MatrixRow {
    u32* r;
    const u8* row;
};
}  // namespace moeprof_host

DEVICE void load_matrix_x4(u32 (&r)[4], u32 address, MOEPROF_SITE) {
    using moeprof_host::MatrixRow;
    MatrixRow mine{r, moeprof_host::shared_pointer(address, 16, 16, site)};
    moeprof_host::warp_collective("load_matrix_x4", moeprof_host::ALL_LANES, true, mine,
                                  [](MatrixRow* (&lanes)[32]) {
        for (u32 lane = 0; lane < 32; ++lane)
            for (u32 i = 0; i < 4; ++i)
                std::memcpy(&lanes[lane]->r[i], lanes[8 * i + lane / 4]->row + lane % 4 * 4, 4);
    }, site);
}

DEVICE void copy_async_16(u32 to, const void* from, bool valid, MOEPROF_SITE) {
    using namespace moeprof_host;
    u8* const place = shared_pointer(to, 16, 16, site);
    if (valid) check_global(from, 16, 16, Access::READ, site);
    else if (reinterpret_cast<u64>(from) % 16) fail(site, "the copy's source is no multiple of 16");
    // The bytes may be read at any time between issue and arrival.
    Copy copy{place, from, valid, chance(2), current->groups, site, {}};
    if (valid && copy.early) std::memcpy(&copy.bytes, from, 16);
    poison(place, 16);
    current->copies.push_back(copy);
}

DEVICE void copy_async_commit() { ++moeprof_host::current->groups; }

template <int PENDING>
DEVICE void copy_async_wait() {
    moeprof_host::Fibre& me = *moeprof_host::current;
    size_t arrived = 0;
    for (const moeprof_host::Copy& copy : me.copies) {
        if (copy.group + PENDING >= me.groups) break;
        if (copy.valid && !copy.early) std::memcpy(copy.to, copy.from, 16);
        else std::memcpy(copy.to, &copy.bytes, 16);
        ++arrived;
    }
    me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<std::ptrdiff_t>(arrived));
    if (arrived) moeprof_host::progress();
}

DEVICE uint4 load_streaming_16(const void* from, MOEPROF_SITE) {
    moeprof_host::check_global(from, 16, 16, moeprof_host::Access::READ_CONSTANT, site);
    return *static_cast<const uint4*>(from);
}
DEVICE uint4 load_fresh_16(const void* from, MOEPROF_SITE) {
    moeprof_host::check_global(from, 16, 16, moeprof_host::Access::READ, site);
    moeprof_host::perhaps_give_way(64);
    return *static_cast<const uint4*>(from);
}
DEVICE float load_fresh_float(const float* from, MOEPROF_SITE) {
    moeprof_host::check_global(from, 4, 4, moeprof_host::Access::READ, site);
    moeprof_host::perhaps_give_way(64);
    return *from;
}
DEVICE void prefetch_to_l2(const void*) {}

DEVICE u32 load_acquire(const u32* from, MOEPROF_SITE) {
    moeprof_host::check_global(from, 4, 4, moeprof_host::Access::READ, site);
    return moeprof_host::poll(from, "load_acquire", site);
}
DEVICE void store_relaxed(u32* to, u32 value, MOEPROF_SITE) {
    moeprof_host::check_global(to, 4, 4, moeprof_host::Access::WRITE, site);
    moeprof_host::perhaps_give_way(8);
    *to = value;
    moeprof_host::progress();
}
DEVICE u32 add_acquire_release(u32* to, u32 value, MOEPROF_SITE) {
    moeprof_host::check_global(to, 4, 4, moeprof_host::Access::WRITE, site);
    return moeprof_host::change(to, [=](u32 v) { return v + value; }, "add_acquire_release", site);
}
DEVICE void fence_gpu() {}
DEVICE void relax(MOEPROF_SITE) { moeprof_host::yield("relax", site); }

DEVICE float from_bf16(u16 v) { return moeprof_host::float_of_bf16(v); }
DEVICE u32 pack_bf16(float low, float high) {
    return moeprof_host::bf16_of(low) | static_cast<u32>(moeprof_host::bf16_of(high)) << 16;
}
DEVICE u16 to_bf16(float v) { return moeprof_host::bf16_of(v); }
DEVICE u32 pack_e4m3(float a, float b, float c, float d) {
    using moeprof_host::e4m3_of;
    return e4m3_of(a) | e4m3_of(b) << 8 | e4m3_of(c) << 16 | e4m3_of(d) << 24;
}

DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], MOEPROF_SITE) {
    using moeprof_host::Fragments;
    Fragments mine{d, a, b};
    moeprof_host::warp_collective("mma_bf16", moeprof_host::ALL_LANES, true, mine,
                                  [](Fragments* (&lanes)[32]) {
        moeprof_host::multiply<16, 2>(lanes, [](u32 two, u32 i) {
            return moeprof_host::float_of_bf16(static_cast<u16>(two >> 16 * i));
        });
    }, site);
}
DEVICE void mma_fp8(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], MOEPROF_SITE) {
    using moeprof_host::Fragments;
    Fragments mine{d, a, b};
    moeprof_host::warp_collective("mma_fp8", moeprof_host::ALL_LANES, true, mine,
                                  [](Fragments* (&lanes)[32]) {
        moeprof_host::multiply<32, 4>(lanes, [](u32 four, u32 i) {
            return moeprof_host::E4M3[four >> 8 * i & 0xFF];
        });
    }, site);
}

DEVICE float exp2_fast(float x) { return std::exp2(x); }
DEVICE float swiglu(float gate, float up) {
    return gate / (1.0f + exp2_fast(-1.44269504f * gate)) * up;
}
