// The experts of one rank in one launch, streaming weights: gate/up and SwiGLU, then down and the
// weighted combination, for up to ROWS rows of an expert at a time.
//
// Weights are the left operand of mma.sync (16 of their rows) and rows the right one (8 of them), so
// that few rows waste little. Work is cut into units of 128 weight rows times 128 bytes of k; every
// block takes an equal, contiguous share of all units (stream-K), so that it does not matter how many
// experts are active. Tiles that two blocks share are added up by whoever finishes last, in the
// order of the blocks: results do not depend on timing. Weights arrive by cp.async, STAGES - 1 units
// ahead, also across the border between the two products: while hidden rows are still being finished
// elsewhere, the weights of the second product are already on their way.
//
// Defines: FP8 (0: bf16, 1: e4m3 with block scales), ROWS (8, 16, 32, 64), STAGES, BLOCKS (per
// multiprocessor). All blocks must be resident together: launch cooperatively.

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kTile = 128;                // weight rows of a unit
constexpr int kFeatures = kTile / 2;      // of the first product: 8 gate and 8 up rows for each warp
constexpr int kUnitBytes = 128;           // of each weight row
constexpr int kUnitK = FP8 ? 128 : 64;    // elements of them
constexpr int kStageBytes = kTile * kUnitBytes;
constexpr int kRowTiles = ROWS / 8;
constexpr int kMaxExperts = 512;
constexpr float kFp8Max = 448.0f;

constexpr int kRowsAt = STAGES * kStageBytes;              // two slots of ROWS x 128 bytes
constexpr int kScalesAt = kRowsAt + 2 * ROWS * kUnitBytes;  // two slots of 2 x ROWS floats
constexpr int kTableAt = kScalesAt + 2 * 2 * ROWS * 4;     // an int4 for each active expert
constexpr int kNotesAt = kTableAt + kMaxExperts * 16;      // sums of warps, then tokens to combine
static_assert(kNotesAt + (kWarps + 8 + ROWS) * 4 <= SHARED_BYTES, "shared memory is too small");

// One block's contiguous share of a product's units, and how units are numbered: chunk of k fastest,
// then tile of weight rows, then group of rows.
struct Share {
    int first, count;   // of units
    int chunks, tiles;  // of a tile, of a group
    int units, blocks;  // of the whole product; those blocks that have any
    int each, more;     // units of every block; blocks that have one more

    DEVICE_METHOD int start_of(int block) const { return block * each + min(block, more); }
    DEVICE_METHOD int block_of(int unit) const {
        const int larger = more * (each + 1);
        return unit < larger ? unit / (each + 1) : more + (unit - larger) / each;
    }
};

// The present block's share of the first (0) or second product. Recomputed where it is needed: kept
// in registers it would cost more.
DEVICE Share share_of(const ExpertArguments& a, int product, int groups) {
    const int element = FP8 ? 1 : 2;
    const int features = product == 0 ? a.expert_size : a.hidden_size;
    const int per_tile = product == 0 ? kFeatures : kTile;
    const int row_bytes = (product == 0 ? a.hidden_size : a.expert_size) * element;
    Share s;
    s.chunks = (row_bytes + kUnitBytes - 1) / kUnitBytes;
    s.tiles = (features + per_tile - 1) / per_tile;
    s.units = groups * s.tiles * s.chunks;
    s.blocks = min(static_cast<int>(gridDim.x), s.units);
    s.each = s.units / max(s.blocks, 1);
    s.more = s.units - s.each * s.blocks;
    const int block = blockIdx.x;
    s.first = s.start_of(block);
    s.count = block < s.blocks ? s.start_of(block + 1) - s.first : 0;
    return s;
}

// Where a block is in its share. A group is up to ROWS rows of one active expert; `active` is that
// expert's place in the table, whose entries are (expert, first row, end row, end group).
struct Position {
    int chunk, tile, group, active;
};

DEVICE Position position_at(const Share& share, const int4* table, int num_active) {
    Position at;
    const int tile = share.first / share.chunks;
    at.chunk = share.first - tile * share.chunks;
    at.group = tile / share.tiles;
    at.tile = tile - at.group * share.tiles;
    int low = 0, high = num_active - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (table[middle].w > at.group) high = middle; else low = middle + 1;
    }
    at.active = low;
    return at;
}

// One unit on; returns whether the group is another.
DEVICE bool advance(Position& at, int chunks, int tiles, const int4* table) {
    if (++at.chunk < chunks) return false;
    at.chunk = 0;
    if (++at.tile < tiles) return false;
    at.tile = 0;
    if (++at.group >= table[at.active].w) ++at.active;
    return true;
}

struct Group {
    int expert, first_row, num_rows;
};

DEVICE Group group_at(const Position& at, const int4* table) {
    const int4 entry = table[at.active];
    const int groups = (entry.z - entry.y + ROWS - 1) / ROWS;
    const int first = entry.y + (at.group - (entry.w - groups)) * ROWS;
    return {entry.x, first, min(ROWS, entry.z - first)};
}

// The counters' parts; all are zero between launches.
struct Counters {
    u32* finished;   // blocks that are done
    u32* ready;      // tiles of hidden that are written, by group
    u32* tickets[2]; // contributions to a tile that blocks share, by product
    u32* combined;   // rows of a token that are written, by token and tile
};

DEVICE int tiles_of(const ExpertArguments& a, int product) {
    return product == 0 ? (a.expert_size + kFeatures - 1) / kFeatures
                        : (a.hidden_size + kTile - 1) / kTile;
}

DEVICE Counters counters_of(const ExpertArguments& a) {
    const int most_groups = min(a.num_experts, a.num_rows) + a.num_rows / ROWS;
    Counters c;
    c.finished = a.counters;
    c.ready = a.counters + 1;
    c.tickets[0] = c.ready + most_groups;
    c.tickets[1] = c.tickets[0] + most_groups * tiles_of(a, 0);
    c.combined = c.tickets[1] + most_groups * tiles_of(a, 1);
    return c;
}

// Fills the table with the experts that have rows and returns how many have, and groups in all.
DEVICE int2 find_active(const ExpertArguments& a, int4* table, u32* notes) {
    constexpr int kEach = kMaxExperts / kThreads;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    int starts[kEach], ends[kEach];
    u32 sums[kEach], sum = 0;  // active experts in the upper 12 bits, groups in the lower 20
    UNROLL for (int i = 0; i < kEach; ++i) {
        const int expert = thread * kEach + i;
        const bool real = expert < a.num_experts;
        ends[i] = real ? a.row_ends[expert] : 0;
        starts[i] = real && expert > 0 ? a.row_ends[expert - 1] : 0;
        const int rows = ends[i] - starts[i];
        sum += rows > 0 ? (1u << 20) + static_cast<u32>((rows + ROWS - 1) / ROWS) : 0;
        sums[i] = sum;
    }
    u32 before = sum;
    UNROLL for (int distance = 1; distance < 32; distance *= 2) {
        const u32 other = __shfl_up_sync(0xFFFFFFFFu, before, distance);
        if (lane >= distance) before += other;
    }
    if (lane == 31) notes[warp] = before;
    __syncthreads();
    u32 total = 0, base = before - sum;
    UNROLL for (int w = 0; w < kWarps; ++w) {
        if (w < warp) base += notes[w];
        total += notes[w];
    }
    UNROLL for (int i = 0; i < kEach; ++i) {
        if (ends[i] <= starts[i]) continue;
        const u32 through = base + sums[i];
        table[(through >> 20) - 1] = make_int4(thread * kEach + i, starts[i], ends[i],
                                               static_cast<int>(through & 0xFFFFF));
    }
    __syncthreads();
    return make_int2(static_cast<int>(total >> 20), static_cast<int>(total & 0xFFFFF));
}

// The stream of weights: knows the next unit to ask for, in either product.
struct WeightStream {
    Position at;
    int left;            // units of the present product
    int chunks, tiles;   // of a tile, of a group
    bool second;         // which product
    const u8* source;    // this thread's 16 bytes of the tile's first row of its four, at k = 0
    u64 step;            // bytes between its rows
    int rows;            // of the four, how many are there
    int row_bytes;
    int piece_at, to;    // of this thread's 16 bytes: from the row's start, in a stage
};

DEVICE void aim(WeightStream& s, const ExpertArguments& a, const int4* table) {
    const int base = threadIdx.x / 8, piece = threadIdx.x % 8;
    const u64 expert = table[s.at.active].x;
    const int element = FP8 ? 1 : 2;
    s.piece_at = piece * 16;
    s.to = base * kUnitBytes + ((piece ^ (base & 7)) << 4);
    int feature, apart, limit;
    u64 row;
    const u8* matrix;
    if (!s.second) {
        // Rows 0..7 of each 16 are gate, rows 8..15 up of the same features.
        s.row_bytes = a.hidden_size * element;
        feature = s.at.tile * kFeatures + base / 16 * 8 + base % 8;
        apart = 16;
        limit = a.expert_size;
        row = expert * 2 * a.expert_size + (base % 16 / 8) * a.expert_size + feature;
        matrix = a.gate_up;
    } else {
        s.row_bytes = a.expert_size * element;
        feature = s.at.tile * kTile + base;
        apart = 32;
        limit = a.hidden_size;
        row = expert * a.hidden_size + feature;
        matrix = a.down;
    }
    s.rows = feature < limit ? (limit - feature + apart - 1) / apart : 0;
    s.step = static_cast<u64>(apart) * s.row_bytes;
    s.source = (s.rows > 0 ? matrix + row * s.row_bytes : a.gate_up) + s.piece_at;
}

DEVICE void begin(WeightStream& s, bool second, const ExpertArguments& a, int2 found,
                  const int4* table) {
    const Share share = share_of(a, second, found.y);
    s.second = second;
    s.left = share.count;
    s.chunks = share.chunks;
    s.tiles = share.tiles;
    if (s.left > 0) {
        s.at = position_at(share, table, found.x);
        aim(s, a, table);
    }
}

// Asks for one unit's weights, or for nothing where none is left, and closes the group of copies.
DEVICE void ask(WeightStream& s, u32 stage, const ExpertArguments& a, int2 found,
                const int4* table) {
    if (s.left == 0 && !s.second) begin(s, true, a, found, table);
    if (s.left > 0) {
        const int at = s.at.chunk * kUnitBytes;
        const bool inside = at + s.piece_at < s.row_bytes;
        const u8* from = s.source + (inside ? at : 0);
        UNROLL for (int i = 0; i < 4; ++i) {
            copy_async_16(stage + s.to + i * 32 * kUnitBytes, from, inside && i < s.rows);
            if (i + 1 < s.rows) from += s.step;
        }
        const int tile = s.at.tile;
        const bool other = advance(s.at, s.chunks, s.tiles, table);
        if (--s.left > 0 && (other || tile != s.at.tile)) aim(s, a, table);
    }
    copy_async_commit();
}

// The rows that weights meet, two units ahead: in registers first, then in shared memory.
constexpr int kPieces = ROWS * (FP8 ? 16 : 8);  // of 16 bytes, as they come: bf16
constexpr int kLoads = (kPieces + kThreads - 1) / kThreads;

struct RowStream {
    Position at;
    const u8* sources[kLoads];  // null: no such row
    uint4 values[kLoads];
    float scales[2];            // of the weights that these rows meet: rows 0..7 and 8..15 of each 16
};

template <int PRODUCT>
DEVICE void aim(RowStream& s, const ExpertArguments& a, const int4* table) {
    const Group group = group_at(s.at, table);
    if (PRODUCT == 1) {
        const u32* ready = counters_of(a).ready + s.at.group;
        while (load_acquire(ready) != static_cast<u32>(tiles_of(a, 0))) relax();
    }
    UNROLL for (int i = 0; i < kLoads; ++i) {
        const int piece = threadIdx.x + i * kThreads;
        const int row = piece / (FP8 ? 16 : 8);
        s.sources[i] = nullptr;
        if (piece < kPieces && row < group.num_rows) {
            const u64 index = PRODUCT == 0 ? a.row_tokens[group.first_row + row]
                                           : group.first_row + row;
            const u8* rows = PRODUCT == 0 ? a.tokens : a.hidden;
            const u64 size = PRODUCT == 0 ? a.hidden_size : a.expert_size;
            s.sources[i] = rows + (index * size + piece % (FP8 ? 16 : 8) * 8) * 2;
        }
    }
}

template <int PRODUCT>
DEVICE void load(RowStream& s, const ExpertArguments& a, const int4* table) {
    const int size = PRODUCT == 0 ? a.hidden_size : a.expert_size;
    const int at = s.at.chunk * kUnitK;
    UNROLL for (int i = 0; i < kLoads; ++i) {
        const int column = at + (threadIdx.x + i * kThreads) % (FP8 ? 16 : 8) * 8;
        s.values[i] = make_uint4(0, 0, 0, 0);
        if (s.sources[i] != nullptr && column < size) s.values[i] = load_fresh_16(s.sources[i] + at * 2);
    }
    if (FP8 && threadIdx.x % 16 == 0) {
        const u64 expert = table[s.at.active].x;
        if (PRODUCT == 0) {
            const int gate = s.at.tile * kFeatures / 128, blocks = a.expert_size / 128;
            const float* scales = a.gate_up_scales + expert * 2 * blocks * (a.hidden_size / 128);
            s.scales[0] = scales[gate * (a.hidden_size / 128) + s.at.chunk];
            s.scales[1] = scales[(gate + blocks) * (a.hidden_size / 128) + s.at.chunk];
        } else {
            const u64 block = expert * (a.hidden_size / 128) + s.at.tile;
            s.scales[0] = a.down_scales[block * (a.expert_size / 128) + s.at.chunk];
            s.scales[1] = s.scales[0];
        }
    }
}

DEVICE void store_bf16(const RowStream& s, u32 slot) {
    UNROLL for (int i = 0; i < kLoads; ++i) {
        const int piece = threadIdx.x + i * kThreads, row = piece / 8;
        if (piece < kPieces) store_shared_16(slot + row * 128 + ((piece % 8 ^ (row & 7)) << 4), s.values[i]);
    }
}

DEVICE float greatest_of(uint4 v) {
    float most = 0.0f;
    const u32 words[4] = {v.x, v.y, v.z, v.w};
    UNROLL for (int i = 0; i < 4; ++i) {
        most = fmaxf(most, fabsf(from_bf16(static_cast<u16>(words[i] & 0xFFFF))));
        most = fmaxf(most, fabsf(from_bf16(static_cast<u16>(words[i] >> 16))));
    }
    return most;
}

DEVICE u32 four_e4m3(u32 first, u32 second, float scale) {
    return pack_e4m3(from_bf16(static_cast<u16>(first & 0xFFFF)) * scale,
                     from_bf16(static_cast<u16>(first >> 16)) * scale,
                     from_bf16(static_cast<u16>(second & 0xFFFF)) * scale,
                     from_bf16(static_cast<u16>(second >> 16)) * scale);
}

// 16 lanes hold a row's 128 values: its greatest magnitude becomes e4m3's maximum (DeepSeek-V3,
// arXiv 2412.19437, section 3.3). The product of the rows' and the weights' scales goes beside it.
DEVICE void store_fp8(const RowStream& s, u32 slot, u32 scales) {
    UNROLL for (int i = 0; i < kLoads; ++i) {
        const int piece = threadIdx.x + i * kThreads, row = piece / 16, part = piece % 16;
        if (piece >= kPieces) continue;  // whole warps do
        float most = greatest_of(s.values[i]);
        UNROLL for (int distance = 1; distance < 16; distance *= 2) {
            most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, distance));
        }
        const float to_fp8 = most > 0.0f ? kFp8Max / most : 0.0f;
        const u32 low = four_e4m3(s.values[i].x, s.values[i].y, to_fp8);
        const u32 high = four_e4m3(s.values[i].z, s.values[i].w, to_fp8);
        const u32 next_low = __shfl_xor_sync(0xFFFFFFFFu, low, 1);
        const u32 next_high = __shfl_xor_sync(0xFFFFFFFFu, high, 1);
        if (part % 2 == 0) {
            store_shared_16(slot + row * 128 + ((part / 2 ^ (row & 7)) << 4),
                            make_uint4(low, high, next_low, next_high));
        }
        if (part == 0) {
            const float scale = most * (1.0f / kFp8Max);
            store_shared_float(scales + row * 4, scale * s.scales[0]);
            store_shared_float(scales + (ROWS + row) * 4, scale * s.scales[1]);
        }
    }
}

DEVICE void store(const RowStream& s, u32 shared, int slot) {
    const u32 rows = shared + kRowsAt + slot * ROWS * kUnitBytes;
    if (FP8) {
        store_fp8(s, rows, shared + kScalesAt + slot * 2 * ROWS * 4);
    } else {
        store_bf16(s, rows);
    }
}

// d[rows / 8] += this warp's 16 weight rows times the rows, over one unit of k.
DEVICE void multiply(float (&d)[kRowTiles][4], u32 stage, u32 rows, u32 scales, int num_rows) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 weights[4][4];
    UNROLL for (int k = 0; k < 4; ++k) {
        const int row = warp * 16 + lane % 16, piece = 2 * k + lane / 16;
        load_matrix_x4(weights[k], stage + row * 128 + ((piece ^ (row & 7)) << 4));
    }
    UNROLL for (int tile = 0; tile < kRowTiles; ++tile) {
        if (tile * 8 >= num_rows) break;
        float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        UNROLL for (int half = 0; half < 2; ++half) {
            u32 r[4];
            const int row = tile * 8 + lane % 8, piece = 4 * half + lane / 8;
            load_matrix_x4(r, rows + row * 128 + ((piece ^ (row & 7)) << 4));
            const u32 low[2] = {r[0], r[1]}, high[2] = {r[2], r[3]};
#if FP8
            mma_fp8(sums, weights[2 * half], low);
            mma_fp8(sums, weights[2 * half + 1], high);
#else
            mma_bf16(d[tile], weights[2 * half], low);
            mma_bf16(d[tile], weights[2 * half + 1], high);
#endif
        }
        if (FP8) {
            UNROLL for (int i = 0; i < 4; ++i) {
                const int row = tile * 8 + lane % 4 * 2 + i % 2;
                d[tile][i] += sums[i] * load_shared_float(scales + (i / 2 * ROWS + row) * 4);
            }
        }
    }
}

// Adds up what several blocks have of one tile. Returns true in the block that came last, which then
// has the whole sum in `d`.
DEVICE bool join(float (&d)[kRowTiles][4], const ExpertArguments& a, int groups, int product,
                 int tile_index, int num_rows, u32* notes) {
    const Share share = share_of(a, product, groups);
    u32* ticket = (product == 0 ? counters_of(a).tickets[0] : counters_of(a).tickets[1]) + tile_index;
    const int first = share.block_of(tile_index * share.chunks);
    const int last = share.block_of((tile_index + 1) * share.chunks - 1);
    const int thread = threadIdx.x;
    constexpr u64 kSlot = static_cast<u64>(kThreads) * kRowTiles * 4;
    // A block shares at most the first and the last tile of its range.
    auto slot = [&](int block) {
        const int own = share.start_of(block) / share.chunks == tile_index ? 0 : 1;
        return a.partials + ((static_cast<u64>(product) * gridDim.x + block) * 2 + own) * kSlot;
    };
    float* mine = slot(blockIdx.x);
    UNROLL for (int tile = 0; tile < kRowTiles; ++tile) {
        if (tile * 8 >= num_rows) break;
        reinterpret_cast<float4*>(mine)[tile * kThreads + thread] =
            make_float4(d[tile][0], d[tile][1], d[tile][2], d[tile][3]);
    }
    __syncthreads();
    if (thread == 0) notes[kWarps] = add_acquire_release(ticket, 1);
    __syncthreads();
    if (notes[kWarps] != static_cast<u32>(last - first)) return false;
    if (thread == 0) store_relaxed(ticket, 0);
    constexpr int kAtOnce = 4;  // loads under way together
    UNROLL for (int tile = 0; tile < kRowTiles; ++tile) {
        if (tile * 8 >= num_rows) break;
        UNROLL for (int i = 0; i < 4; ++i) d[tile][i] = 0.0f;
        NO_UNROLL for (int block = first; block <= last; block += kAtOnce) {
            uint4 parts[kAtOnce];
            UNROLL for (int i = 0; i < kAtOnce; ++i) {
                parts[i] = load_fresh_16(slot(min(block + i, last)) + (tile * kThreads + thread) * 4);
            }
            UNROLL for (int i = 0; i < kAtOnce; ++i) {
                if (block + i > last) break;
                d[tile][0] += __uint_as_float(parts[i].x);
                d[tile][1] += __uint_as_float(parts[i].y);
                d[tile][2] += __uint_as_float(parts[i].z);
                d[tile][3] += __uint_as_float(parts[i].w);
            }
        }
    }
    return true;
}

DEVICE void finish_hidden(const float (&d)[kRowTiles][4], const ExpertArguments& a, const Group& group,
                          const Position& at) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int feature = at.tile * kFeatures + warp * 8 + lane / 4;
    u16* hidden = reinterpret_cast<u16*>(a.hidden);
    UNROLL for (int tile = 0; tile < kRowTiles; ++tile) {
        UNROLL for (int i = 0; i < 2; ++i) {
            const int row = tile * 8 + lane % 4 * 2 + i;
            if (row < group.num_rows && feature < a.expert_size) {
                hidden[static_cast<u64>(group.first_row + row) * a.expert_size + feature] =
                    to_bf16(swiglu(d[tile][i], d[tile][2 + i]));
            }
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) add_acquire_release(counters_of(a).ready + at.group, 1);
}

DEVICE void finish_outputs(const float (&d)[kRowTiles][4], const ExpertArguments& a,
                           const Group& group, const Position& at, u32* notes) {
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    UNROLL for (int tile = 0; tile < kRowTiles; ++tile) {
        UNROLL for (int i = 0; i < 4; ++i) {
            const int row = tile * 8 + lane % 4 * 2 + i % 2;
            const int feature = at.tile * kTile + warp * 16 + lane / 4 + i / 2 * 8;
            if (row < group.num_rows && feature < a.hidden_size) {
                a.row_outputs[static_cast<u64>(group.first_row + row) * a.hidden_size + feature] =
                    d[tile][i] * a.row_weights[group.first_row + row];
            }
        }
    }
    __syncthreads();
    int* tokens = reinterpret_cast<int*>(notes + kWarps + 8);
    if (thread < group.num_rows) {
        const int token = a.row_tokens[group.first_row + thread];
        u32 rows = 0;
        for (int slot = 0; slot < a.top_k; ++slot) rows += a.token_rows[token * a.top_k + slot] >= 0;
        u32* counter = counters_of(a).combined + static_cast<u64>(token) * tiles_of(a, 1) + at.tile;
        const bool last = add_acquire_release(counter, 1) == rows - 1;
        if (last) store_relaxed(counter, 0);
        tokens[thread] = last ? token : -1;
    }
    __syncthreads();
    const int feature = at.tile * kTile + thread % kTile;
    NO_UNROLL for (int row = thread / kTile; row < group.num_rows; row += kThreads / kTile) {
        const int token = tokens[row];
        if (token < 0 || feature >= a.hidden_size) continue;
        const int* rows = a.token_rows + token * a.top_k;
        float sum = 0.0f;
        // kAtOnce loads under way together: one after the other they would be most of the last tile.
        constexpr int kAtOnce = 8;
        NO_UNROLL for (int slot = 0; slot < a.top_k; slot += kAtOnce) {
            int from[kAtOnce];
            float parts[kAtOnce];
            UNROLL for (int i = 0; i < kAtOnce; ++i) from[i] = slot + i < a.top_k ? rows[slot + i] : -1;
            if (from[0] < 0) break;
            UNROLL for (int i = 0; i < kAtOnce; ++i) {
                const u64 valid = from[i] < 0 ? from[0] : from[i];
                parts[i] = load_fresh_float(a.row_outputs + valid * a.hidden_size + feature);
            }
            UNROLL for (int i = 0; i < kAtOnce; ++i) sum += from[i] < 0 ? 0.0f : parts[i];
        }
        a.outputs[static_cast<u64>(token) * a.hidden_size + feature] = to_bf16(sum);
    }
}

// What is first read when the last tiles are finished, where nothing else hides a trip to memory.
DEVICE void prefetch_for_the_end(const ExpertArguments& a) {
    constexpr int kLine = 32;  // values of 4 bytes
    const int thread = blockIdx.x * kThreads + threadIdx.x;
    if (thread * kLine < a.num_tokens * a.top_k) prefetch_to_l2(a.token_rows + thread * kLine);
    if (thread * kLine < a.num_rows) prefetch_to_l2(a.row_weights + thread * kLine);
}

struct Ring {
    u32 base;
    int next, oldest;  // stages: to be filled, to be used

    DEVICE_METHOD u32 fill() { return take(next); }
    DEVICE_METHOD u32 use() { return take(oldest); }
    DEVICE_METHOD u32 take(int& which) {
        const u32 stage = base + which * kStageBytes;
        which = which + 1 == STAGES ? 0 : which + 1;
        return stage;
    }
};

template <int PRODUCT>
DEVICE void run(const ExpertArguments& a, int2 found, WeightStream& weights, Ring& ring,
                const int4* table, u32* notes) {
    Position at;
    int count, chunks, tiles;
    {
        const Share share = share_of(a, PRODUCT, found.y);
        count = share.count;
        chunks = share.chunks;
        tiles = share.tiles;
        if (count == 0) return;
        at = position_at(share, table, found.x);
    }
    RowStream rows;
    rows.at = at;
    aim<PRODUCT>(rows, a, table);
    load<PRODUCT>(rows, a, table);
    store(rows, ring.base, 0);
    auto load_next = [&]() {
        if (advance(rows.at, chunks, tiles, table)) aim<PRODUCT>(rows, a, table);
        load<PRODUCT>(rows, a, table);
    };
    if (count > 1) load_next();

    Group group = group_at(at, table);
    float d[kRowTiles][4] = {};
    int began = at.chunk;
    NO_UNROLL for (int unit = 0; unit < count; ++unit) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        ask(weights, ring.fill(), a, found, table);
        if (unit + 1 < count) store(rows, ring.base, (unit + 1) & 1);
        if (unit + 2 < count) load_next();
        const int slot = unit & 1;
        multiply(d, ring.use(), ring.base + kRowsAt + slot * ROWS * kUnitBytes,
                 ring.base + kScalesAt + slot * 2 * ROWS * 4, group.num_rows);
        const bool end_of_tile = at.chunk + 1 == chunks;
        if (end_of_tile || unit + 1 == count) {
            const bool whole = end_of_tile && began == 0;
            if (whole || join(d, a, found.y, PRODUCT, at.group * tiles + at.tile, group.num_rows,
                              notes)) {
                if (PRODUCT == 0) {
                    finish_hidden(d, a, group, at);
                } else {
                    finish_outputs(d, a, group, at, notes);
                }
            }
            UNROLL for (int tile = 0; tile < kRowTiles; ++tile) {
                UNROLL for (int i = 0; i < 4; ++i) d[tile][i] = 0.0f;
            }
            began = 0;
        }
        if (unit + 1 < count && advance(at, chunks, tiles, table)) group = group_at(at, table);
    }
}

KERNEL(kThreads, BLOCKS) experts_stream(PARAMETER ExpertArguments a) {
    SHARED_MEMORY(shared);
    int4* table = reinterpret_cast<int4*>(shared + kTableAt);
    u32* notes = reinterpret_cast<u32*>(shared + kNotesAt);
    const int2 found = find_active(a, table, notes);

    WeightStream weights;
    Ring ring = {shared_address(shared), 0, 0};
    begin(weights, false, a, found, table);
    NO_UNROLL for (int stage = 0; stage < STAGES - 1; ++stage) {
        ask(weights, ring.fill(), a, found, table);
    }
    prefetch_for_the_end(a);
    run<0>(a, found, weights, ring, table, notes);
    run<1>(a, found, weights, ring, table, notes);
    copy_async_wait<0>();

    // Tokens none of whose experts are on this rank.
    for (int token = blockIdx.x; token < a.num_tokens; token += gridDim.x) {
        if (a.token_rows[token * a.top_k] >= 0) continue;
        for (int i = threadIdx.x; i < a.hidden_size; i += kThreads) {
            a.outputs[static_cast<u64>(token) * a.hidden_size + i] = 0;
        }
    }
    // Before a block says that it is done, none of its threads may still be looking at `ready`.
    __syncthreads();
    const Counters counters = counters_of(a);
    if (threadIdx.x == 0) notes[kWarps] = add_acquire_release(counters.finished, 1);
    __syncthreads();
    if (notes[kWarps] + 1 == gridDim.x) {
        for (int group = threadIdx.x; group < found.y; group += kThreads) {
            store_relaxed(counters.ready + group, 0);
        }
        if (threadIdx.x == 0) store_relaxed(counters.finished, 0);
    }
}
