// The experts of one rank in one launch on Hopper's tensor cores: gate/up and SwiGLU, then down and
// the weighted combination, for up to ROWS rows of an expert at a time.
//
// Weights are the left operand of wgmma (64 of their rows) and an expert's rows the right one. A
// persistent block has one thread that has the copy engine bring tiles of 128 weight rows times 128
// bytes of k, three warps that gather the rows those meet (both into a ring of STAGES), and two
// warpgroups that multiply, each 64 of the 128. In a tile of the first product 8 gate rows alternate
// with the 8 up rows of the same features (the tensor map has five dimensions for that), so that one
// thread holds both. Tiles go to the blocks in turn, an expert's groups of rows side by side, which
// lets them share weights in the L2 cache. What is left after whole rounds is cut along k into equal
// shares (stream-K); whoever finishes a shared tile last adds its parts up in the order of the
// blocks, so results do not depend on timing. Weights do not wait for the other operand: those of
// the second product are on their way while hidden rows are still being finished elsewhere.
//
// Defines: FP8 (0: bf16, 1: e4m3 with block scales), ROWS (16, 32, 64, 128), STAGES, SHARED_BYTES.
// All blocks must be resident together: launch cooperatively, one block per multiprocessor.

struct alignas(64) WgmmaArguments {
    ExpertArguments experts;
    TensorMap gate_up_map;  // [num_experts, expert_size / 8, gate or up, 8, hidden_size]
    TensorMap down_map;     // [num_experts, hidden_size, expert_size]
};

constexpr int kThreads = 384, kMultipliers = 256, kGatherers = 96;
constexpr int kMultiplierWarps = kMultipliers / 32, kGathererWarps = kGatherers / 32;
constexpr int kTile = 128, kFeatures = kTile / 2;  // weight rows of a tile; features of the first product
constexpr int kChunkBytes = 128, kChunk = FP8 ? 128 : 64;  // of k, that a stage holds
constexpr int kSplit = 4;                                  // chunks that stay together in stream-K
constexpr int kMaxExperts = 512;
constexpr float kFp8Max = 448.0f;
constexpr int kPackedBytes = 144;  // 128 e4m3 values, their scale, padding: pieces of 16 bytes

constexpr int kWeightBytes = kTile * kChunkBytes, kStageBytes = kWeightBytes + ROWS * kChunkBytes;
constexpr int kScaleBytes = FP8 ? ROWS * 16 : 0;  // of a stage: each row's scale, in its 16 bytes
constexpr int kScalesAt = STAGES * kStageBytes;
constexpr int kBarriersAt = kScalesAt + STAGES * kScaleBytes;
constexpr int kTableAt = kBarriersAt + STAGES * 16;
constexpr int kNotesAt = kTableAt + 2 * (kMaxExperts + 1) * 4;
static_assert(kNotesAt + (32 + ROWS) * 4 <= SHARED_BYTES, "shared memory is too small");

// ---- who does what ------------------------------------------------------------------------------

// What comes before each expert, and before the end; in shared memory.
struct Table {
    int* groups;  // of up to ROWS rows of one expert
    int* rows;
};

// A product's tiles, and this block's part of them: `rounds` whole tiles, tile `round * gridDim.x +
// blockIdx.x` in each, then units `begin` to `end` of those that the rest is cut into.
struct Share {
    int tiles, chunks;          // of a group, of a tile
    int rounds;
    int units_per_tile, unit;   // of the rest; chunks of a unit
    u32 units, blocks;          // of the rest; those blocks that have any
    u32 begin, end;

    // Less than a tile for each block: 32 bits hold the products.
    DEVICE_METHOD u32 start_of(u32 block) const { return units * block / blocks; }
    DEVICE_METHOD u32 block_of(u32 at) const { return ((at + 1) * blocks - 1) / units; }
};

DEVICE int tiles_of(const ExpertArguments& a, int product) {
    return product == 0 ? a.expert_size / kFeatures : (a.hidden_size + kTile - 1) / kTile;
}

DEVICE Share share_of(const ExpertArguments& a, int product, int groups) {
    const int grid = gridDim.x;
    Share s;
    s.tiles = tiles_of(a, product);
    s.chunks = (product == 0 ? a.hidden_size : a.expert_size) / kChunk;
    s.rounds = groups * s.tiles / grid;
    const int rest = groups * s.tiles - s.rounds * grid;
    // A round that is nearly whole is not worth adding up parts.
    const bool whole = rest * 8 >= grid * 7;
    s.unit = whole ? s.chunks : kSplit;
    s.units_per_tile = whole ? 1 : (s.chunks + kSplit - 1) / kSplit;
    s.units = rest * s.units_per_tile;
    s.blocks = min(static_cast<u32>(grid), s.units);
    const bool some = blockIdx.x < s.blocks;
    s.begin = some ? s.start_of(blockIdx.x) : 0;
    s.end = some ? s.start_of(blockIdx.x + 1) : 0;
    return s;
}

// Chunks `begin` to `end` of one tile; `parts` blocks from `first_block` on share the tile.
struct Part {
    int expert, first_row, num_rows;
    int group;  // counted over all experts
    int tile, begin, end;
    u32 first_block, parts;
};

struct Walk {
    Share share;
    int round;
    u32 at;
};

DEVICE Walk walk_of(const ExpertArguments& a, int product, const Table& table) {
    Walk walk;
    walk.share = share_of(a, product, table.groups[a.num_experts]);
    walk.round = 0;
    walk.at = walk.share.begin;
    return walk;
}

// Finds the block's next part; all its warps walk alike. Returns false at the end.
DEVICE bool next(Walk& walk, Part& part, const ExpertArguments& a, const Table& table) {
    const Share& share = walk.share;
    int index;
    if (walk.round < share.rounds) {
        index = walk.round++ * gridDim.x + blockIdx.x;
        part.begin = 0;
        part.end = share.chunks;
        part.first_block = blockIdx.x;
        part.parts = 1;
    } else {
        if (walk.at >= share.end) return false;
        const u32 per_tile = share.units_per_tile;
        const u32 tile = walk.at / per_tile, first = tile * per_tile;
        const u32 end = min(share.end, first + per_tile);
        index = share.rounds * gridDim.x + tile;
        part.begin = (walk.at - first) * share.unit;
        part.end = min(share.chunks, static_cast<int>(end - first) * share.unit);
        part.first_block = share.block_of(first);
        part.parts = share.block_of(first + per_tile - 1) - part.first_block + 1;
        walk.at = end;
    }
    int low = 0, high = a.num_experts - 1;
    const int ordinal = index / share.tiles;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (table.groups[middle + 1] > ordinal) high = middle; else low = middle + 1;
    }
    const int before = table.groups[low], groups = table.groups[low + 1] - before;
    const int within = index - before * share.tiles;
    part.expert = low;
    part.tile = within / groups;
    const int group = within - part.tile * groups;
    part.group = before + group;
    part.first_row = table.rows[low] + group * ROWS;
    part.num_rows = min(ROWS, table.rows[low + 1] - part.first_row);
    return true;
}

// The whole block fills the table.
DEVICE void fill(const Table& table, const ExpertArguments& a, u32* notes) {
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    int carried = 0;
    NO_UNROLL for (int base = 0; base < a.num_experts; base += kThreads) {
        const int expert = base + thread;
        const bool real = expert < a.num_experts;
        const int end = real ? a.row_ends[expert] : 0;
        const int start = real && expert > 0 ? a.row_ends[expert - 1] : 0;
        int through = (end - start + ROWS - 1) / ROWS;
        UNROLL for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(0xFFFFFFFFu, through, distance);
            if (lane >= distance) through += other;
        }
        if (lane == 31) notes[warp] = through;
        __syncthreads();
        int total = 0;
        UNROLL for (int w = 0; w < kThreads / 32; ++w) {
            if (w < warp) through += notes[w];
            total += notes[w];
        }
        if (real) {
            table.groups[expert + 1] = carried + through;
            table.rows[expert + 1] = end;
        }
        carried += total;
        __syncthreads();
    }
    if (thread == 0) {
        table.groups[0] = 0;
        table.rows[0] = 0;
    }
}

// The counters' parts; all are zero between launches.
struct Counters {
    u32* finished;   // blocks that are done
    u32* quantised;  // blocks that have quantised their share of the tokens
    u32* tickets;    // parts of a shared tile that are done, by product and the tile's first block
    u32* ready;      // tiles of hidden that can be read, by expert; pairs of tiles with FP8
    u32* pairs;      // FP8: tiles of a pair that are written, by group and pair
    u32* combined;   // rows of a token that are written, by token and tile
};

DEVICE Counters counters_of(const ExpertArguments& a) {
    const int groups = min(a.num_experts, a.num_rows) + a.num_rows / ROWS;
    Counters c;
    c.finished = a.counters;
    c.quantised = a.counters + 1;
    c.tickets = a.counters + 2;
    c.ready = c.tickets + 2 * gridDim.x;
    c.pairs = c.ready + a.num_experts;
    c.combined = c.pairs + (FP8 ? groups * (a.expert_size / 128) : 0);
    return c;
}

// The scratch's parts: four parts of tiles for each block, then tokens and hidden rows in e4m3.
struct Scratch {
    float* parts;
    u8* tokens;
    u8* hidden;
};

DEVICE Scratch scratch_of(const ExpertArguments& a) {
    Scratch s;
    s.parts = a.partials;
    s.tokens = reinterpret_cast<u8*>(a.partials + static_cast<u64>(gridDim.x) * 4 * kTile * ROWS);
    s.hidden = s.tokens + static_cast<u64>(a.num_tokens) * (a.hidden_size / 128) * kPackedBytes;
    return s;
}

// ---- the ring of stages ---------------------------------------------------------------------------

struct Ring {
    u32 base;
    u32 stage = 0, lap = 0;

    DEVICE_METHOD void advance() {
        if (++stage == STAGES) {
            stage = 0;
            lap ^= 1;
        }
    }
    DEVICE_METHOD u32 weights() const { return base + stage * kStageBytes; }
    DEVICE_METHOD u32 rows() const { return weights() + kWeightBytes; }
    DEVICE_METHOD u32 scales() const { return base + kScalesAt + stage * kScaleBytes; }
    DEVICE_METHOD u32 full() const { return base + kBarriersAt + stage * 16; }
    DEVICE_METHOD u32 empty() const { return full() + 8; }
    // A barrier that nobody has arrived at yet counts as having ended a phase of parity 1.
    DEVICE_METHOD void wait_empty() const { barrier_wait(empty(), lap ^ 1); }
    DEVICE_METHOD void wait_full() const { barrier_wait(full(), lap); }
};

// ---- one thread: weights --------------------------------------------------------------------------

DEVICE void bring_weights(const WgmmaArguments& a, Ring ring, const Table& table) {
    tensor_prefetch(a.gate_up_map);
    tensor_prefetch(a.down_map);
    NO_UNROLL for (int product = 0; product < 2; ++product) {
        Walk walk = walk_of(a.experts, product, table);
        Part part;
        while (next(walk, part, a.experts, table)) {
            NO_UNROLL for (int chunk = part.begin; chunk < part.end; ++chunk, ring.advance()) {
                ring.wait_empty();
                barrier_arrive_expecting(ring.full(), kWeightBytes);
                if (product == 0) {
                    tensor_load_5d(ring.weights(), a.gate_up_map, chunk * kChunk, 0, 0,
                                   part.tile * (kFeatures / 8), part.expert, ring.full());
                } else {
                    tensor_load_3d(ring.weights(), a.down_map, chunk * kChunk, part.tile * kTile,
                                   part.expert, ring.full());
                }
            }
        }
    }
}

// ---- three warps: the rows that weights meet ------------------------------------------------------

// A gatherer copies the same 16-byte piece of every twelfth row, and with FP8 some rows' scales.
constexpr int kRowsAtOnce = kGatherers / 8, kLoads = (ROWS + kRowsAtOnce - 1) / kRowsAtOnce;
constexpr int kScaleLoads = FP8 ? (ROWS + kGatherers - 1) / kGatherers : 0;
constexpr int kPackedStep = FP8 ? kPackedBytes : kChunkBytes;  // from a row's chunk to the next
constexpr u32 kNoRow = ~0u;
constexpr int kAhead = STAGES / 2;  // stages whose rows are asked for and not yet waited for
// A warpgroup gives a stage back once it has started on the next, which must have arrived by then.
static_assert(kAhead + 2 <= STAGES, "too few stages: all would wait for each other");

// A stage whose rows have arrived: the tensor cores may read it.
DEVICE void hand_over(Ring& handed) {
    fence_async_proxy();
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(handed.full());
    handed.advance();
}

DEVICE void gather_rows(const ExpertArguments& a, Ring ring, const Table& table) {
    const int thread = threadIdx.x - 32;
    const Counters counters = counters_of(a);
    const Scratch scratch = scratch_of(a);
    Ring handed = ring;
    int open = 0;
    NO_UNROLL for (int product = 0; product < 2; ++product) {
        const u8* const source = product == 0 ? (FP8 ? scratch.tokens : a.tokens)
                                              : (FP8 ? scratch.hidden : a.hidden);
        Walk walk = walk_of(a, product, table);
        Part part;
        int seen = -1;  // the expert whose rows are known to be complete
        while (next(walk, part, a, table)) {
            if (product == 1 ? part.expert != seen : FP8 && seen < 0) {
                // Whoever finishes what is waited for may need what was asked for.
                copy_async_wait<0>();
                for (; open > 0; --open) hand_over(handed);
                const int groups = table.groups[part.expert + 1] - table.groups[part.expert];
                const u32* counter = product == 0 ? counters.quantised : counters.ready + part.expert;
                const u32 enough = product == 0 ? gridDim.x
                                                : groups * (a.expert_size / (FP8 ? 128 : kFeatures));
                while (load_acquire(counter) != enough) relax();
                seen = part.expert;
            }
            // In pieces; kNoRow where the part has no such row.
            const u32 row_pieces = walk.share.chunks * (kPackedStep / 16);
            u32 places[kLoads + kScaleLoads];
            UNROLL for (int i = 0; i < kLoads + kScaleLoads; ++i) {
                const bool scale = i >= kLoads;
                const int row = scale ? thread + (i - kLoads) * kGatherers
                                      : thread / 8 + i * kRowsAtOnce;
                places[i] = kNoRow;
                if (row < part.num_rows) {
                    const u32 index = product == 0 ? a.row_tokens[part.first_row + row]
                                                   : part.first_row + row;
                    places[i] = index * row_pieces + (scale ? 8 : thread % 8);
                }
            }
            NO_UNROLL for (int chunk = part.begin; chunk < part.end; ++chunk, ring.advance()) {
                ring.wait_empty();
                const u8* const from = source + chunk * kPackedStep;
                // Twelve rows on, the swizzle differs in its highest bit.
                static_assert(kRowsAtOnce % 8 == 4, "the swizzle of a row is another");
                const int base = thread / 8, p = thread % 8 ^ (base & 7);
                UNROLL for (int i = 0; i < kLoads; ++i) {
                    if (base + i * kRowsAtOnce >= ROWS) continue;
                    const u32 to = ring.rows() + (base + i * kRowsAtOnce) * kChunkBytes;
                    const bool real = places[i] != kNoRow;
                    copy_async_16(to + ((p ^ i % 2 * 4) << 4),
                                  from + (real ? static_cast<u64>(places[i]) * 16 : 0), real);
                }
                UNROLL for (int i = kLoads; i < kLoads + kScaleLoads; ++i) {
                    const int row = thread + (i - kLoads) * kGatherers;
                    if (row >= ROWS) continue;
                    const bool real = places[i] != kNoRow;
                    copy_async_16(ring.scales() + row * 16,
                                  from + (real ? static_cast<u64>(places[i]) * 16 : 0), real);
                }
                copy_async_commit();
                if (++open > kAhead) {
                    copy_async_wait<kAhead>();
                    hand_over(handed);
                    --open;
                }
            }
        }
    }
    copy_async_wait<0>();
    for (; open > 0; --open) hand_over(handed);
}

// ---- rows in e4m3 ---------------------------------------------------------------------------------

DEVICE float low_bf16(u32 v) { return from_bf16(static_cast<u16>(v & 0xFFFF)); }
DEVICE float high_bf16(u32 v) { return from_bf16(static_cast<u16>(v >> 16)); }

// Packs blocks of 128 bf16 values, `first`, `first + stride`, ... (`count` of them), `lot` of `lots`
// half warps taking each its own: a block's greatest magnitude becomes e4m3's maximum (DeepSeek-V3,
// arXiv 2412.19437, section 3.3). Both halves of a warp must call with the same `count`, and lots
// that are neighbours.
DEVICE void quantise(const u8* from, u8* to, u64 first, u64 stride, int count, int lot, int lots) {
    constexpr int kAtOnce = 4;
    const int part = threadIdx.x % 16, half = lot & 1;
    NO_UNROLL for (int base = lot - half; base < count; base += lots * kAtOnce) {
        uint4 values[kAtOnce];
        UNROLL for (int i = 0; i < kAtOnce; ++i) {
            const int item = base + half + i * lots;
            values[i] = make_uint4(0, 0, 0, 0);
            if (item < count) values[i] = load_fresh_16(from + (first + item * stride) * 256 + part * 16);
        }
        UNROLL for (int i = 0; i < kAtOnce; ++i) {
            const u32 words[4] = {values[i].x, values[i].y, values[i].z, values[i].w};
            float most = 0.0f;
            UNROLL for (int j = 0; j < 4; ++j) {
                most = fmaxf(most, fmaxf(fabsf(low_bf16(words[j])), fabsf(high_bf16(words[j]))));
            }
            UNROLL for (int distance = 1; distance < 16; distance *= 2) {
                most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, distance));
            }
            const float by = most > 0.0f ? kFp8Max / most : 0.0f;
            const int item = base + half + i * lots;
            if (item < count) {
                u8* const block = to + (first + item * stride) * kPackedBytes;
                reinterpret_cast<uint2*>(block)[part] =
                    make_uint2(pack_e4m3(low_bf16(words[0]) * by, high_bf16(words[0]) * by,
                                         low_bf16(words[1]) * by, high_bf16(words[1]) * by),
                               pack_e4m3(low_bf16(words[2]) * by, high_bf16(words[2]) * by,
                                         low_bf16(words[3]) * by, high_bf16(words[3]) * by));
                if (part == 0) reinterpret_cast<float*>(block)[32] = most * (1.0f / kFp8Max);
            }
        }
    }
}

// ---- two warpgroups: products and what follows ----------------------------------------------------

// What a thread of the multiplying warpgroups is.
struct Place {
    int thread, warp;   // of kMultipliers, of kMultiplierWarps; four warps are a warpgroup
    int g, t;           // in the fragment
};

DEVICE void meet() { named_barrier(1, kMultipliers); }

// This warp has read the stage.
DEVICE void release(const Ring& ring) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(ring.empty());
}

// Starts the products of one stage: the warpgroup's 64 weight rows with all rows.
DEVICE void start(float (&d)[ROWS / 2], const Ring& ring, int warpgroup, bool accumulate) {
    const u64 weights = swizzled_tile(ring.weights() + warpgroup * 64 * kChunkBytes);
    const u64 rows = swizzled_tile(ring.rows());
    warpgroup_arrive();
    UNROLL for (int k = 0; k < kChunkBytes / 32; ++k) {
        // The descriptor counts in 16 bytes.
        if (FP8) {
            warpgroup_mma_fp8(d, weights + 2 * k, rows + 2 * k, accumulate || k > 0);
        } else {
            warpgroup_mma_bf16(d, weights + 2 * k, rows + 2 * k, accumulate || k > 0);
        }
    }
    warpgroup_commit();
}

DEVICE void multiply_bf16(float (&d)[ROWS / 2], const Part& part, Ring& ring, int warpgroup) {
    Ring previous = ring;
    NO_UNROLL for (int chunk = part.begin; chunk < part.end; ++chunk) {
        ring.wait_full();
        start(d, ring, warpgroup, chunk > part.begin);
        if (chunk > part.begin) {
            warpgroup_wait<1>();
            release(previous);
        }
        previous = ring;
        ring.advance();
    }
    warpgroup_wait<0>();
    warpgroup_settle(d);
    release(previous);
}

// The tensor cores keep few bits of sums of e4m3 products (DeepSeek-V3, arXiv 2412.19437, section
// 3.3): every 128 of k are scaled and added in fp32. `scales` are those of the weights, of gate and
// of up features (the same ones twice in the second product), along k.
DEVICE void multiply_fp8(float (&d)[ROWS / 2], const Part& part, Ring& ring, const Place& place,
                         const float* first_scales, const float* second_scales) {
    float sums[ROWS / 2];
    UNROLL for (int i = 0; i < ROWS / 2; ++i) d[i] = sums[i] = 0.0f;
    NO_UNROLL for (int chunk = part.begin; chunk < part.end; ++chunk, ring.advance()) {
        const float first = first_scales[chunk], second = second_scales[chunk];
        ring.wait_full();
        start(sums, ring, place.warp / 4, false);
        warpgroup_wait<0>();
        warpgroup_settle(sums);
        UNROLL for (int j = 0; j < ROWS / 8; ++j) {
            UNROLL for (int c = 0; c < 2; ++c) {
                const float scale = load_shared_float(ring.scales() + (8 * j + 2 * place.t + c) * 16);
                d[4 * j + c] += sums[4 * j + c] * (first * scale);
                d[4 * j + 2 + c] += sums[4 * j + 2 + c] * (second * scale);
            }
        }
        release(ring);
    }
}

template <int PRODUCT>
DEVICE void multiply(float (&d)[ROWS / 2], const ExpertArguments& a, const Part& part, Ring& ring,
                     const Place& place) {
    if (FP8) {
        const int rows = (PRODUCT == 0 ? a.expert_size : a.hidden_size) / 128;
        const u64 columns = (PRODUCT == 0 ? a.hidden_size : a.expert_size) / 128;
        const u64 expert = part.expert;
        const float* first = PRODUCT == 0
            ? a.gate_up_scales + (expert * 2 * rows + part.tile / 2) * columns
            : a.down_scales + (expert * rows + part.tile) * columns;
        multiply_fp8(d, part, ring, place, first, PRODUCT == 0 ? first + rows * columns : first);
    } else {
        multiply_bf16(d, part, ring, place.warp / 4);
    }
}

// Keeps this block's part of a shared tile; returns whether all parts are there, and then their sum.
template <int PRODUCT>
DEVICE bool add_up(float (&d)[ROWS / 2], const ExpertArguments& a, const Part& part,
                   const Place& place, u32* notes) {
    // A block may share the tile it begins with, which others began, and the one it ends with.
    constexpr int kSize = kTile * ROWS;
    float* const parts = scratch_of(a).parts + PRODUCT * 2 * kSize + place.thread;
    float* const mine = parts + (static_cast<u64>(blockIdx.x) * 4 + (part.begin == 0)) * kSize;
    UNROLL for (int i = 0; i < ROWS / 2; ++i) mine[i * kMultipliers] = d[i];
    meet();
    if (place.thread == 0) {
        u32* const ticket = counters_of(a).tickets + PRODUCT * gridDim.x + part.first_block;
        const u32 before = add_acquire_release(ticket, 1);
        if (before + 1 == part.parts) store_relaxed(ticket, 0);
        notes[0] = before + 1 == part.parts;
    }
    meet();
    if (!notes[0]) return false;
    UNROLL for (int i = 0; i < ROWS / 2; ++i) d[i] = 0.0f;
    NO_UNROLL for (u32 p = 0; p < part.parts; ++p) {
        const float* other = parts + (static_cast<u64>(part.first_block + p) * 4 + (p == 0)) * kSize;
        UNROLL for (int i = 0; i < ROWS / 2; ++i) d[i] += load_fresh_float(other + i * kMultipliers);
    }
    return true;
}

// SwiGLU, and the hidden rows' features of this tile; with FP8, whoever writes the second tile of
// 128 features quantises them.
DEVICE void finish_hidden(const float (&d)[ROWS / 2], const ExpertArguments& a, const Part& part,
                          const Place& place, u32* notes) {
    const Counters counters = counters_of(a);
    u16* const hidden = reinterpret_cast<u16*>(a.hidden) + part.tile * kFeatures + place.warp * 8 + place.g;
    UNROLL for (int j = 0; j < ROWS / 8; ++j) {
        UNROLL for (int c = 0; c < 2; ++c) {
            const int row = 8 * j + 2 * place.t + c;
            if (row < part.num_rows) {
                hidden[static_cast<u64>(part.first_row + row) * a.expert_size] =
                    to_bf16(swiglu(d[4 * j + c], d[4 * j + 2 + c]));
            }
        }
    }
    meet();
    if (FP8) {
        const int pairs = a.expert_size / 128, pair = part.tile / 2;
        if (place.thread == 0) {
            u32* const ticket = counters.pairs + part.group * pairs + pair;
            const u32 before = add_acquire_release(ticket, 1);
            if (before == 1) store_relaxed(ticket, 0);
            notes[0] = before;
        }
        meet();
        if (notes[0] == 0) return;
        quantise(a.hidden, scratch_of(a).hidden, static_cast<u64>(part.first_row) * pairs + pair, pairs,
                 part.num_rows, place.thread / 16, kMultipliers / 16);
        meet();
    }
    if (place.thread == 0) add_acquire_release(counters.ready + part.expert, 1);
}

// A token's output, 128 features of it: its rows in their order. One warp.
DEVICE void combine(const ExpertArguments& a, int token, int feature) {
    constexpr int kAtOnce = 4;
    if (feature >= a.hidden_size) return;
    const int* rows = a.token_rows + static_cast<u64>(token) * a.top_k;
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    NO_UNROLL for (int base = 0; base < a.top_k; base += kAtOnce) {
        uint4 values[kAtOnce];
        UNROLL for (int i = 0; i < kAtOnce; ++i) {
            const int row = base + i < a.top_k ? rows[base + i] : -1;
            values[i] = make_uint4(0, 0, 0, 0);
            if (row >= 0) {
                values[i] = load_fresh_16(a.row_outputs + static_cast<u64>(row) * a.hidden_size + feature);
            }
        }
        UNROLL for (int i = 0; i < kAtOnce; ++i) {
            sums[0] += __uint_as_float(values[i].x);
            sums[1] += __uint_as_float(values[i].y);
            sums[2] += __uint_as_float(values[i].z);
            sums[3] += __uint_as_float(values[i].w);
        }
    }
    *reinterpret_cast<uint2*>(a.outputs + static_cast<u64>(token) * a.hidden_size + feature) =
        make_uint2(pack_bf16(sums[0], sums[1]), pack_bf16(sums[2], sums[3]));
}

// Weighted rows; whoever writes a token's last one combines them.
DEVICE void finish_outputs(const float (&d)[ROWS / 2], const ExpertArguments& a, const Part& part,
                           const Place& place, u32* notes) {
    const int feature = part.tile * kTile + place.warp * 16 + place.g;
    UNROLL for (int j = 0; j < ROWS / 8; ++j) {
        UNROLL for (int c = 0; c < 2; ++c) {
            const int row = 8 * j + 2 * place.t + c;
            if (row < part.num_rows) {
                const u64 index = part.first_row + row;
                const float weight = a.row_weights[index];
                float* const to = a.row_outputs + index * a.hidden_size + feature;
                if (feature < a.hidden_size) to[0] = weight * d[4 * j + c];
                if (feature + 8 < a.hidden_size) to[8] = weight * d[4 * j + 2 + c];
            }
        }
    }
    int* const complete = reinterpret_cast<int*>(notes + 1);  // by row: its token, or -1
    meet();
    if (place.thread < part.num_rows) {
        const int token = a.row_tokens[part.first_row + place.thread];
        u32 rows = 0;
        for (int i = 0; i < a.top_k; ++i) rows += a.token_rows[static_cast<u64>(token) * a.top_k + i] >= 0;
        u32* const counter = counters_of(a).combined + static_cast<u64>(token) * tiles_of(a, 1) + part.tile;
        const bool last = add_acquire_release(counter, 1) + 1 == rows;
        if (last) store_relaxed(counter, 0);
        complete[place.thread] = last ? token : -1;
    }
    meet();
    for (int row = place.warp; row < part.num_rows; row += kMultiplierWarps) {
        const int token = complete[row];
        if (token >= 0) combine(a, token, part.tile * kTile + threadIdx.x % 32 * 4);
    }
}

template <int PRODUCT>
DEVICE void run(const ExpertArguments& a, Ring& ring, const Table& table, const Place& place,
                u32* notes) {
    Walk walk = walk_of(a, PRODUCT, table);
    Part part;
    while (next(walk, part, a, table)) {
        float d[ROWS / 2];
        multiply<PRODUCT>(d, a, part, ring, place);
        if (part.parts > 1 && !add_up<PRODUCT>(d, a, part, place, notes)) continue;
        if (PRODUCT == 0) {
            finish_hidden(d, a, part, place, notes);
        } else {
            finish_outputs(d, a, part, place, notes);
        }
    }
}

DEVICE void quantise_tokens(const ExpertArguments& a, const Place& place) {
    constexpr int kLots = kMultipliers / 16;
    quantise(a.tokens, scratch_of(a).tokens, 0, 1, a.num_tokens * (a.hidden_size / 128),
             blockIdx.x * kLots + place.thread / 16, gridDim.x * kLots);
    meet();
    if (place.thread == 0) add_acquire_release(counters_of(a).quantised, 1);
}

// Tokens none of whose experts are on this rank.
DEVICE void clear_others(const ExpertArguments& a, const Place& place) {
    const int warps = gridDim.x * kMultiplierWarps;
    for (int token = blockIdx.x * kMultiplierWarps + place.warp; token < a.num_tokens; token += warps) {
        if (a.token_rows[static_cast<u64>(token) * a.top_k] >= 0) continue;
        u32* const outputs = reinterpret_cast<u32*>(a.outputs + static_cast<u64>(token) * a.hidden_size);
        for (int i = threadIdx.x % 32; i < a.hidden_size / 2; i += 32) outputs[i] = 0;
    }
}

KERNEL(kThreads, 1) experts_wgmma(PARAMETER WgmmaArguments arguments) {
    SHARED_MEMORY(shared);
    const ExpertArguments& a = arguments.experts;
    Table table;
    table.groups = reinterpret_cast<int*>(shared + kTableAt);
    table.rows = table.groups + kMaxExperts + 1;
    u32* const notes = reinterpret_cast<u32*>(shared + kNotesAt);
    Ring ring;
    ring.base = shared_address(shared);
    if (threadIdx.x == 0) {
        Ring each = ring;
        for (int i = 0; i < STAGES; ++i, each.advance()) {
            barrier_init(each.full(), 1 + kGathererWarps);
            barrier_init(each.empty(), kMultiplierWarps);
        }
        barrier_init_fence();
    }
    fill(table, a, notes);
    __syncthreads();

    // 128 threads with 104 registers and 256 with 200 are as many as 384 with the 168 of the start.
    if (threadIdx.x < kThreads - kMultipliers) {
        give_registers<104>();
        if (threadIdx.x >= 32) {
            gather_rows(a, ring, table);
        } else if (threadIdx.x == 0) {
            bring_weights(arguments, ring, table);
        }
        __syncwarp();
    } else {
        take_registers<200>();
        Place place;
        place.thread = threadIdx.x - (kThreads - kMultipliers);
        place.warp = place.thread / 32;
        place.g = threadIdx.x % 32 / 4;
        place.t = threadIdx.x % 4;
        if (FP8) quantise_tokens(a, place);
        clear_others(a, place);
        run<0>(a, ring, table, place, notes);
        run<1>(a, ring, table, place, notes);
    }
    __syncthreads();

    // The last block out leaves the counters that others were waiting for as it found them.
    const Counters counters = counters_of(a);
    if (threadIdx.x == 0) notes[0] = add_acquire_release(counters.finished, 1) + 1 == gridDim.x;
    __syncthreads();
    if (notes[0]) {
        for (int expert = threadIdx.x; expert < a.num_experts; expert += kThreads) {
            store_relaxed(counters.ready + expert, 0);
        }
        if (threadIdx.x == 0) {
            store_relaxed(counters.quantised, 0);
            store_relaxed(counters.finished, 0);
        }
    }
}
