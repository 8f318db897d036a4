// What Hopper adds, in C++20 on a CPU: the last part of device.cuh, and wgmma.cuh; stands after
// host.hpp, of which it uses the hooks.
//
// Boxes of tensors arrive a while after they were asked for, in any order, and poison the place
// until then. Products are computed when they are issued or when they are waited for, as chance has
// it, from what the descriptors point at; until they are waited for, their sums are poison. Faults
// beyond those of host.hpp: barriers that were never made, or get an arrival too many; copies that
// the tensor cores read without a fence_async_proxy of who made them; products without a
// warpgroup_arrive, or never waited for. Weaker than a GPU: the four warps of a warpgroup need not
// meet, and registers are not given or taken.

struct alignas(64) TensorMap {  // moeprof/kernel/cuda/tensor_map.py writes it
    u64 address;
    u32 rank, element_bytes;
    u64 strides_bytes[4];
    u32 sizes[5], box[5];
};
static_assert(sizeof(TensorMap) == 128);

namespace moeprof_host {

// ---- barriers in shared memory ----------------------------------------------------------------

struct MBarrier {
    u32 arrivals = 0, missing = 0;  // of a phase; still to come in this one
    u64 bytes = 0;                  // that the copy engine still has to bring
    u32 phase = 0;

    void settle() {
        if (missing || bytes) return;
        ++phase;
        missing = arrivals;
        progress();
    }
};

struct Product {
    u64 a, b;
    bool fp8, accumulate, done;
    u32 group;
};

// The sums of one warp's products into one array: as they will be, and where they go.
struct Sums {
    u32 columns;
    float* places[32];
    std::vector<float> values;  // [16, columns]
    std::vector<Product> pending;
};

struct WarpProducts {
    u32 warp_of_group = 0, groups = 0;
    bool arrived = false, open = false;  // open: products that are not committed
    std::vector<Sums> sums;
};

struct Hopper {
    std::map<u32, MBarrier> barriers;
    std::map<const Warp*, WarpProducts> products;
    std::vector<u8> unfenced = std::vector<u8>(shared_bytes / 16 + 1);  // by 16 bytes
};

inline MBarrier& barrier_at(u32 address, const Site& site) {
    shared_pointer(address, 8, 8, site);
    std::map<u32, MBarrier>& all = block_state<Hopper>().barriers;
    const auto found = all.find(address);
    if (found == all.end()) fail(site, "no barrier was made at shared address %u", address);
    return found->second;
}

inline void arrive(u32 address, u32 bytes, const Site& site) {
    perhaps_give_way(8);
    MBarrier& barrier = barrier_at(address, site);
    if (!barrier.missing) fail(site, "an arrival too many in phase %u of this barrier", barrier.phase);
    barrier.bytes += bytes;
    --barrier.missing;
    barrier.settle();
}

// ---- the 128-byte swizzle, and products -------------------------------------------------------

// Bits 4..6 of an address are exclusive-ored with bits 7..9 (PTX ISA, "Shared memory layout").
inline u32 swizzled(u32 address) { return address ^ ((address >> 7 & 7) << 4); }

// Bytes `at` to `at + 16` of row `row` of the tile that a descriptor describes (PTX ISA, wgmma,
// "Matrix descriptor format").
inline const u8* piece_of(u64 descriptor, u32 row, u32 at, const Site& site) {
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7))
        fail(site, "descriptor 0x%llx is of no 128-byte swizzle from a multiple of 1024", descriptor);
    const u32 start = static_cast<u32>(descriptor & 0x3FFF) << 4;
    const u32 stride = static_cast<u32>(descriptor >> 32 & 0x3FFF) << 4;
    const u32 address = swizzled(start + row / 8 * stride + row % 8 * 128 + at);
    const u8* const pointer = shared_pointer(address, 16, 16, site);
    if (block_state<Hopper>().unfenced[(address - SHARED_START) / 16])
        fail(site, "the tensor cores read a copy at shared address %u before its fence", address);
    return pointer;
}

template <int K, class Decode>
inline void load_rows(float (*to)[K], u64 descriptor, u32 first, u32 rows, Decode decode,
                      const Site& site) {
    constexpr u32 EACH = K / 2;  // values in 16 bytes
    for (u32 row = 0; row < rows; ++row) {
        for (u32 half = 0; half < 2; ++half) {
            const u8* const piece = piece_of(descriptor, first + row, half * 16, site);
            for (u32 i = 0; i < EACH; ++i) to[row][half * EACH + i] = decode(piece, i);
        }
    }
}

// values[16, columns] (+)= rows 16w..16w + 15 of a, times b transposed.
template <int K, class Decode>
[[gnu::noinline]] inline void multiply_tiles(Sums& sums, const Product& product, u32 w,
                                             Decode decode, const Site& site) {
    float a[16][K], b[256][K];
    load_rows<K>(a, product.a, 16 * w, 16, decode, site);
    load_rows<K>(b, product.b, 0, sums.columns, decode, site);
    for (u32 row = 0; row < 16; ++row) {
        for (u32 column = 0; column < sums.columns; ++column) {
            float& value = sums.values[row * sums.columns + column];
            float sum = 0.0f;
            for (u32 k = 0; k < K; ++k) sum += a[row][k] * b[column][k];
            value = product.accumulate ? value + sum : sum;
        }
    }
}

inline void compute(Sums& sums, const Product& product, u32 w, const Site& site) {
    if (product.fp8) {
        multiply_tiles<32>(sums, product, w, [](const u8* p, u32 i) { return E4M3[p[i]]; }, site);
    } else {
        multiply_tiles<16>(sums, product, w, [](const u8* p, u32 i) {
            u16 v;
            std::memcpy(&v, p + 2 * i, 2);
            return float_of_bf16(v);
        }, site);
    }
}

// Row 8i + g of a warp's 16, column 8j + 2t + c is in d[4j + 2i + c] of lane 4g + t (PTX ISA, wgmma
// register fragments).
inline float& value_of(Sums& sums, u32 lane, u32 index) {
    const u32 row = index / 2 % 2 * 8 + lane / 4, column = index / 4 * 8 + lane % 4 * 2 + index % 2;
    return sums.values[row * sums.columns + column];
}

inline void check_products() {
    for (const auto& [warp, products] : block_state<Hopper>().products) {
        if (warp == current->warp && !products.sums.empty())
            fail_at("warpgroup_mma", 0, "products were never waited for");
    }
}

inline const int registered = (exit_checks.push_back(check_products), 0);

inline WarpProducts& products_of_warp() {
    WarpProducts& products = block_state<Hopper>().products[current->warp];
    const uint3 t = current->thread;
    products.warp_of_group = (t.x + block_size.x * (t.y + block_size.y * t.z)) / 32 % 4;
    return products;
}

inline void issue(float* d, u32 size, u64 a, u64 b, bool fp8, bool accumulate, const Site& site) {
    struct Lane {
        float* d;
        u64 a, b;
        bool accumulate;
    } mine{d, a, b, accumulate};
    warp_collective("warpgroup_mma", ALL_LANES, true, mine, [=](Lane* (&lanes)[32]) {
        WarpProducts& products = products_of_warp();
        if (!products.arrived) fail(site, "a product without a warpgroup_arrive before it");
        products.open = true;
        Sums* sums = nullptr;
        for (Sums& one : products.sums)
            if (one.places[0] == lanes[0]->d) sums = &one;
        if (!sums) {
            sums = &products.sums.emplace_back();
            sums->columns = 2 * size;
            sums->values.resize(16 * sums->columns);
            for (u32 lane = 0; lane < 32; ++lane) {
                sums->places[lane] = lanes[lane]->d;
                for (u32 i = 0; i < size; ++i) value_of(*sums, lane, i) = lanes[lane]->d[i];
                poison(lanes[lane]->d, size * sizeof(float));
            }
        }
        for (const Lane* lane : lanes) {
            if (lane->a != lanes[0]->a || lane->b != lanes[0]->b
                || lane->accumulate != lanes[0]->accumulate)
                fail(site, "lanes of a warp disagree on a product");
        }
        sums->pending.push_back({lanes[0]->a, lanes[0]->b, fp8, lanes[0]->accumulate, false,
                                 products.groups});
        // In order: what stands before it comes first.
        if (chance(2)) {
            for (Product& product : sums->pending) {
                if (!product.done) compute(*sums, product, products.warp_of_group, site);
                product.done = true;
            }
        }
    }, site);
}

inline void await(u32 most_pending, const Site& site) {
    // Who gave a stage back too early sees it overwritten.
    perhaps_give_way(32);
    int none = 0;
    warp_collective("warpgroup_wait", ALL_LANES, true, none, [=](int* (&)[32]) {
        WarpProducts& products = products_of_warp();
        if (products.open) fail(site, "products were issued and not committed");
        for (Sums& sums : products.sums) {
            size_t over = 0;
            for (const Product& product : sums.pending) {
                if (product.group + most_pending >= products.groups) break;
                if (!product.done) compute(sums, product, products.warp_of_group, site);
                ++over;
            }
            sums.pending.erase(sums.pending.begin(), sums.pending.begin() + static_cast<std::ptrdiff_t>(over));
            if (!sums.pending.empty()) continue;
            for (u32 lane = 0; lane < 32; ++lane)
                for (u32 i = 0; i < sums.columns / 2; ++i)
                    sums.places[lane][i] = value_of(sums, lane, i);
        }
        std::erase_if(products.sums, [](const Sums& one) { return one.pending.empty(); });
    }, site);
}

// ---- boxes of tensors -------------------------------------------------------------------------

inline void load_box(u32 to, const TensorMap& map, const int (&at)[5], u32 rank, u32 barrier,
                     const Site& site) {
    if (map.rank != rank) fail(site, "the map has %u dimensions, not %u", map.rank, rank);
    const u32 row_bytes = map.box[0] * map.element_bytes;
    u32 rows = 1;
    for (u32 i = 1; i < rank; ++i) rows *= map.box[i];
    if (row_bytes != 128) fail(site, "rows of the box have %u bytes, not those of the swizzle", row_bytes);
    shared_pointer(to, rows * 128, 1024, site);
    MBarrier* const counts = &barrier_at(barrier, site);
    struct Row {
        u8* to[8];
        const u8* from;  // null: outside
        u32 bytes;
    };
    std::vector<Row> copies;
    for (u32 row = 0; row < rows; ++row) {
        Row copy{};
        u64 from = map.address + static_cast<std::int64_t>(at[0]) * map.element_bytes;
        bool inside = at[0] >= 0 && at[0] < static_cast<int>(map.sizes[0]);
        u32 rest = row;
        for (u32 i = 1; i < rank; ++i) {
            const int x = at[i] + static_cast<int>(rest % map.box[i]);
            rest /= map.box[i];
            inside = inside && x >= 0 && x < static_cast<int>(map.sizes[i]);
            from += static_cast<u64>(static_cast<std::int64_t>(x)) * map.strides_bytes[i - 1];
        }
        for (u32 p = 0; p < 8; ++p) {
            copy.to[p] = shared_pointer(swizzled(to + row * 128 + p * 16), 16, 16, site);
            poison(copy.to[p], 16);
        }
        if (inside) {
            copy.bytes = std::min<u32>(128, (map.sizes[0] - static_cast<u32>(at[0])) * map.element_bytes);
            copy.from = reinterpret_cast<const u8*>(from);
            check_global(copy.from, copy.bytes, 16, Access::READ, site);
        }
        copies.push_back(copy);
    }
    defer([copies = std::move(copies), counts, bytes = rows * 128] {
        for (const Row& copy : copies) {
            u8 row[128] = {};
            if (copy.from) std::memcpy(row, copy.from, copy.bytes);
            for (u32 p = 0; p < 8; ++p) std::memcpy(copy.to[p], row + 16 * p, 16);
        }
        if (counts->bytes < bytes)
            fail_at("tensor_load", 0, "%u bytes came, the barrier expects %llu", bytes, counts->bytes);
        counts->bytes -= bytes;
        counts->settle();
    });
}

// ---- copies that the tensor cores must not read yet -------------------------------------------

struct Unfenced {
    std::vector<u32> places;  // by 16 bytes, in the order of the copies
};

inline void copy_unfenced(u32 to, const void* from, bool valid, const Site& site) {
    copy_async_16(to, from, valid, site);
    const u32 place = (to - SHARED_START) / 16;
    block_state<Hopper>().unfenced[place] = 1;
    thread_state<Unfenced>().places.push_back(place);
}

}  // namespace moeprof_host

// From here on, a kernel's copies are watched.
#define copy_async_16(to, from, valid) \
    moeprof_host::copy_unfenced(to, from, valid, moeprof_host::Site::current())

DEVICE void fence_async_proxy() {
    std::vector<u32>& places = moeprof_host::thread_state<moeprof_host::Unfenced>().places;
    const size_t arrived = places.size() - moeprof_host::current->copies.size();
    for (size_t i = 0; i < arrived; ++i) moeprof_host::block_state<moeprof_host::Hopper>().unfenced[places[i]] = 0;
    places.erase(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(arrived));
}

DEVICE void barrier_init(u32 barrier, u32 arrivals, MOEPROF_SITE) {
    moeprof_host::shared_pointer(barrier, 8, 8, site);
    if (!arrivals) moeprof_host::fail(site, "a barrier for nobody");
    moeprof_host::block_state<moeprof_host::Hopper>().barriers[barrier] = {arrivals, arrivals, 0, 0};
}
DEVICE void barrier_init_fence() {}
DEVICE void barrier_arrive(u32 barrier, MOEPROF_SITE) { moeprof_host::arrive(barrier, 0, site); }
DEVICE void barrier_arrive_expecting(u32 barrier, u32 bytes, MOEPROF_SITE) {
    moeprof_host::arrive(barrier, bytes, site);
}
DEVICE void barrier_wait(u32 barrier, u32 parity, MOEPROF_SITE) {
    const moeprof_host::MBarrier& state = moeprof_host::barrier_at(barrier, site);
    moeprof_host::wait_until([&] { return (state.phase & 1) != parity; }, "barrier_wait", site);
}

DEVICE void tensor_load_3d(u32 to, const TensorMap& map, int x, int y, int z, u32 barrier,
                           MOEPROF_SITE) {
    moeprof_host::load_box(to, map, {x, y, z, 0, 0}, 3, barrier, site);
}
DEVICE void tensor_load_5d(u32 to, const TensorMap& map, int x, int y, int z, int u, int v,
                           u32 barrier, MOEPROF_SITE) {
    moeprof_host::load_box(to, map, {x, y, z, u, v}, 5, barrier, site);
}
DEVICE void tensor_prefetch(const TensorMap&) {}

template <int REGISTERS>
DEVICE void give_registers() { static_assert(REGISTERS % 8 == 0 && REGISTERS >= 24); }
template <int REGISTERS>
DEVICE void take_registers() { static_assert(REGISTERS % 8 == 0 && REGISTERS <= 256); }

DEVICE void named_barrier(u32 which, u32 threads, MOEPROF_SITE) {
    moeprof_host::block_barrier(which, threads, "named_barrier", site);
}

DEVICE u64 swizzled_tile(u32 address, MOEPROF_SITE) {
    if (address % 1024) moeprof_host::fail(site, "a tile at %u, no multiple of 1024", address);
    return address >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

DEVICE void warpgroup_arrive(MOEPROF_SITE) {
    int none = 0;
    moeprof_host::warp_collective("warpgroup_arrive", moeprof_host::ALL_LANES, true, none,
                                  [](int* (&)[32]) { moeprof_host::products_of_warp().arrived = true; },
                                  site);
}
DEVICE void warpgroup_commit(MOEPROF_SITE) {
    int none = 0;
    moeprof_host::warp_collective("warpgroup_commit", moeprof_host::ALL_LANES, true, none,
                                  [](int* (&)[32]) {
        moeprof_host::WarpProducts& products = moeprof_host::products_of_warp();
        products.arrived = products.open = false;
        ++products.groups;
    }, site);
}
template <int PENDING>
DEVICE void warpgroup_wait(MOEPROF_SITE) { moeprof_host::await(PENDING, site); }
template <int SIZE>
DEVICE void warpgroup_settle(float (&)[SIZE]) {}

template <int SIZE>
DEVICE void warpgroup_mma_bf16(float (&d)[SIZE], u64 a, u64 b, bool accumulate, MOEPROF_SITE) {
    moeprof_host::issue(d, SIZE, a, b, false, accumulate, site);
}
template <int SIZE>
DEVICE void warpgroup_mma_fp8(float (&d)[SIZE], u64 a, u64 b, bool accumulate, MOEPROF_SITE) {
    moeprof_host::issue(d, SIZE, a, b, true, accumulate, site);
}
