// Attention of one decode step over a latent cache: queries that have absorbed the projections meet
// one cached vector per token, shared by all heads, whose first LATENT values are the value too
// (DeepSeek-V2, arXiv 2405.04434, section 2.1; in parts over the context as flash-decoding does).
//
// mla_decode: a block takes the context's part of one request for HEADS heads. Each tile of TOKENS
// cached vectors is copied to shared memory once, STAGES - 1 tiles ahead, and serves as keys and,
// transposed on the way to the tensor cores, as values.
//
// Maxima are rounded up to integers of the log2 domain: what is scaled when a maximum grows, or when
// parts are joined (mla_combine.cu), is scaled by powers of two, exactly, and seldom. HEADS = 64 keeps queries in
// shared memory; HEADS = 32 in registers, each of four warps holding a quarter of the width.
//
// The build defines HEADS, TOKENS and STAGES. Blocks have 256 threads.

// Shapes: moeprof/kernel/cuda/mla.py, which lays out the same structure.
struct MlaArguments {
    const u16* queries;
    const u16* cache;
    const int* pages;
    const int* context_lengths;
    float* partials;
    float* statistics;
    int num_heads;
    int num_splits;
    int page_size;
    int pages_per_request;
    float scale_log2;
};

constexpr int LATENT = 512, ROTARY = 64, WIDTH = LATENT + ROTARY;  // values per query, per token
constexpr int CHUNKS = WIDTH * 2 / 128;                            // 128-byte pieces of them
constexpr int WARPS = LATENT / 64;                                 // each owns 64 output columns
constexpr int HEAD_WARPS = HEADS / 16;        // 16 heads' scores are the work of
constexpr int PEERS = WARPS / HEAD_WARPS;     // so many warps, which share
constexpr int WIDTH_PARTS = HEADS == 32 ? PEERS : 1;  // the width (queries in registers)
constexpr int TOKEN_PARTS = PEERS / WIDTH_PARTS;      // or the tokens,
constexpr int PART_TOKENS = TOKENS / TOKEN_PARTS;
constexpr int OWN_TOKENS = TOKENS / PEERS;            // and always the softmax's tokens
constexpr int STEPS = WIDTH / 16 / WIDTH_PARTS;
constexpr int OUT_HEADS = HEADS / 16;                 // fragments of 16 heads in the output
static_assert(WARPS == 8 && OWN_TOKENS % 8 == 0 && PART_TOKENS % 16 == 0, "no such tile");

constexpr u32 TILE_BYTES = TOKENS * WIDTH * 2;
constexpr u32 QUERY_BYTES = WIDTH_PARTS == 1 ? HEADS * WIDTH * 2 : HEADS * TOKENS * 4 * WIDTH_PARTS;
constexpr u32 WEIGHT_BYTES = HEADS * TOKENS * 2;
constexpr u32 ALL_LANES = 0xFFFFFFFF;
constexpr u32 MINUS_INFINITY = 0xFF800000;

// Where the copies of a thread go: 8 threads per row, a 16-byte piece of each chunk, swizzled.
DEVICE void copy_row(u32 tile, int tile_rows, int row, const u16* from, bool valid) {
    const int piece = threadIdx.x % 8;
    const u32 to = tile + row * 128 + ((piece ^ (row % 8)) << 4);
    UNROLL
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        copy_async_16(to + chunk * tile_rows * 128, from + chunk * 64 + piece * 8, valid);
    }
}

DEVICE void copy_tile(const MlaArguments& a, u32 tile, int request, int first_token, int context) {
    UNROLL
    for (int row = threadIdx.x / 8; row < TOKENS; row += WARPS * 4) {
        const int token = first_token + row;
        const bool valid = token < context;
        const u16* from = a.cache;
        if (valid) {
            const int entry = request * a.pages_per_request + token / a.page_size;
            const long long page = a.pages ? a.pages[entry] : entry;
            from += (page * a.page_size + token % a.page_size) * WIDTH;
        }
        copy_row(tile, TOKENS, row, from, valid);
    }
}

// Bytes from a row's start to a 16-byte piece of the softmax's weights [HEADS, TOKENS].
DEVICE u32 weight_piece(int row, int piece) {
    // Rows of 64 bytes: two of them share the 128 bytes that one access to all banks spans.
    const int turn = TOKENS == 64 ? row % 8 : row / 2 % 4;
    return (piece ^ turn) << 4;
}

// The scores of 16 heads and PART_TOKENS tokens over this warp's part of the width.
DEVICE void multiply_scores(float (&scores)[PART_TOKENS / 8][4], u32 queries, u32 tile,
                            const u32 (&held)[WIDTH_PARTS == 1 ? 1 : STEPS][4], int part) {
    const u32 lane = threadIdx.x % 32, head_warp = threadIdx.x / 32 % HEAD_WARPS;
    const int first_token = WIDTH_PARTS == 1 ? part * PART_TOKENS : 0;
    const int first_step = WIDTH_PARTS == 1 ? 0 : part * STEPS;
    const u32 query_row = queries + (head_warp * 16 + lane % 16) * 128;
    const u32 query_piece = ((lane / 16) ^ (lane % 8)) << 4;
    const u32 token_row = tile + (first_token + lane / 16 * 8 + lane % 8) * 128;
    const u32 token_piece = ((lane / 8 % 2) ^ (lane % 8)) << 4;
    UNROLL
    for (int j = 0; j < PART_TOKENS / 8; ++j) {
        UNROLL
        for (int i = 0; i < 4; ++i) scores[j][i] = 0.0f;
    }
    UNROLL
    for (int s = 0; s < STEPS; ++s) {
        const u32 step = first_step + s, chunk = step / 4, turn = step % 4 << 5;
        u32 a[4];
        if constexpr (WIDTH_PARTS == 1) {
            load_matrix_x4(a, query_row + chunk * (HEADS * 128) + (query_piece ^ turn));
        } else {
            UNROLL
            for (int i = 0; i < 4; ++i) a[i] = held[s][i];
        }
        UNROLL
        for (int j = 0; j < PART_TOKENS / 16; ++j) {
            u32 b[4];
            load_matrix_x4(b, token_row + chunk * (TOKENS * 128) + j * 2048 + (token_piece ^ turn));
            mma_bf16(scores[2 * j], a, {b[0], b[1]});
            mma_bf16(scores[2 * j + 1], a, {b[2], b[3]});
        }
    }
}

// From the scores over a part of the width to those of the softmax's own tokens. `exchange` is
// [HEAD_WARPS, WIDTH_PARTS, TOKENS / 8, 32 lanes] of 16 bytes.
DEVICE void join_scores(float (&own)[OWN_TOKENS / 8][4], const float (&parts)[PART_TOKENS / 8][4],
                        u32 exchange, u32 head_warp, u32 peer) {
    const u32 start = exchange + (head_warp * WIDTH_PARTS * TOKENS / 8 * 32 + threadIdx.x % 32) * 16;
    if constexpr (WIDTH_PARTS > 1) {
        UNROLL
        for (int j = 0; j < PART_TOKENS / 8; ++j) {
            const uint4 v = make_uint4(__float_as_uint(parts[j][0]), __float_as_uint(parts[j][1]),
                                       __float_as_uint(parts[j][2]), __float_as_uint(parts[j][3]));
            store_shared_16(start + (peer * (TOKENS / 8) + j) * 512, v);
        }
        __syncthreads();
    }
    UNROLL
    for (int j = 0; j < OWN_TOKENS / 8; ++j) {
        UNROLL
        for (int i = 0; i < 4; ++i) own[j][i] = WIDTH_PARTS == 1 ? parts[j][i] : 0.0f;
        UNROLL
        for (int part = 0; part < WIDTH_PARTS && WIDTH_PARTS > 1; ++part) {
            const u32 tile_of_8 = part * (TOKENS / 8) + peer * (OWN_TOKENS / 8) + j;
            const uint4 v = load_shared_16(start + tile_of_8 * 512);
            own[j][0] += __uint_as_float(v.x), own[j][1] += __uint_as_float(v.y);
            own[j][2] += __uint_as_float(v.z), own[j][3] += __uint_as_float(v.w);
        }
    }
}

// out[HEADS, this warp's 64 columns] += weights[HEADS, TOKENS] * tile[TOKENS, the 64 columns].
DEVICE void multiply_values(float (&out)[OUT_HEADS][8][4], u32 weights, u32 tile) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 weight_row = weights + lane % 16 * (TOKENS * 2);
    const u32 piece = weight_piece(lane % 16, lane / 16);
    const u32 value_row = tile + warp * (TOKENS * 128) + lane % 16 * 128;
    const u32 value_piece = ((lane / 16) ^ (lane % 8)) << 4;
    UNROLL
    for (int k = 0; k < TOKENS / 16; ++k) {
        u32 a[OUT_HEADS][4];
        UNROLL
        for (int m = 0; m < OUT_HEADS; ++m) {
            load_matrix_x4(a[m], weight_row + m * (16 * TOKENS * 2) + (piece ^ (k << 5)));
        }
        UNROLL
        for (int n = 0; n < 4; ++n) {
            u32 b[4];
            load_matrix_x4_transposed(b, value_row + k * 2048 + (value_piece ^ (n << 5)));
            UNROLL
            for (int m = 0; m < OUT_HEADS; ++m) {
                mma_bf16(out[m][2 * n], a[m], {b[0], b[1]});
                mma_bf16(out[m][2 * n + 1], a[m], {b[2], b[3]});
            }
        }
    }
}

KERNEL(256, 1) mla_decode(PARAMETER MlaArguments a) {
    SHARED_MEMORY(memory);
    const u32 tiles = shared_address(memory), queries = tiles + STAGES * TILE_BYTES;
    const u32 weights = queries + QUERY_BYTES, maxima = weights + WEIGHT_BYTES;
    const u32 growths = maxima + PEERS * HEADS * 4;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 head_warp = warp % HEAD_WARPS, peer = warp / HEAD_WARPS;
    const u32 g = lane / 4, t = lane % 4;

    // Blocks with the same tokens are neighbours: one finds in the L2 cache what the other brought.
    const int groups = (a.num_heads + HEADS - 1) / HEADS, block = blockIdx.x / groups;
    const int first_head = blockIdx.x % groups * HEADS, heads = a.num_heads - first_head;
    const int split = block % a.num_splits, request = block / a.num_splits;
    const int context = a.context_lengths[request], num_tiles = (context + TOKENS - 1) / TOKENS;
    const int first_tile = num_tiles * split / a.num_splits;
    const int end_tile = num_tiles * (split + 1) / a.num_splits;
    const u16* query = a.queries + (static_cast<u64>(request) * a.num_heads + first_head) * WIDTH;
    const u64 first_row = static_cast<u64>(block) * a.num_heads + first_head;

    if (first_tile == end_tile) {
        for (int head = threadIdx.x; head < HEADS && head < heads; head += WARPS * 32) {
            a.statistics[(first_row + head) * 2] = __uint_as_float(MINUS_INFINITY);
            a.statistics[(first_row + head) * 2 + 1] = 0.0f;
        }
        return;
    }

    u32 held[WIDTH_PARTS == 1 ? 1 : STEPS][4];
    if constexpr (WIDTH_PARTS == 1) {
        UNROLL
        for (int row = threadIdx.x / 8; row < HEADS; row += WARPS * 4) {
            const bool valid = row < heads;
            copy_row(queries, HEADS, row, query + (valid ? row : 0) * WIDTH, valid);
        }
    } else {
        const int row = head_warp * 16 + g;
        UNROLL
        for (int s = 0; s < STEPS; ++s) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                const int at = row + i % 2 * 8, column = (peer * STEPS + s) * 16 + i / 2 * 8 + 2 * t;
                const u32* from = reinterpret_cast<const u32*>(query + at * WIDTH + column);
                held[s][i] = at < heads ? *from : 0;
            }
        }
    }
    UNROLL
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) {
        const int tile = first_tile + ahead;
        if (tile < end_tile) {
            copy_tile(a, tiles + ahead * TILE_BYTES, request, tile * TOKENS, context);
        }
        copy_async_commit();
    }

    float out[OUT_HEADS][8][4] = {};
    // Of heads g and g + 8 of this warp's 16; sums over this lane's tokens only.
    float maximum[2] = {__uint_as_float(MINUS_INFINITY), __uint_as_float(MINUS_INFINITY)};
    float sum[2] = {0.0f, 0.0f};
    int stage = 0;
    NO_UNROLL
    for (int tile = first_tile; tile < end_tile; ++tile) {
        const u32 here = tiles + stage * TILE_BYTES;
        copy_async_wait<STAGES - 2>();
        __syncthreads();  // the tile is there for all; all are done with the tile before
        if (tile + STAGES - 1 < end_tile) {
            const int free = stage == 0 ? STAGES - 1 : stage - 1;
            copy_tile(a, tiles + free * TILE_BYTES, request, (tile + STAGES - 1) * TOKENS, context);
        }
        copy_async_commit();
        stage = stage == STAGES - 1 ? 0 : stage + 1;

        float parts[PART_TOKENS / 8][4], own[OWN_TOKENS / 8][4];
        multiply_scores(parts, queries, here, held, peer);
        join_scores(own, parts, queries, head_warp, peer);

        float greatest[2] = {__uint_as_float(MINUS_INFINITY), __uint_as_float(MINUS_INFINITY)};
        UNROLL
        for (int j = 0; j < OWN_TOKENS / 8; ++j) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                const int token = tile * TOKENS + peer * OWN_TOKENS + j * 8 + 2 * t + i % 2;
                own[j][i] = token < context ? own[j][i] * a.scale_log2
                                            : __uint_as_float(MINUS_INFINITY);
                greatest[i / 2] = fmaxf(greatest[i / 2], own[j][i]);
            }
        }
        UNROLL
        for (int i = 0; i < 2; ++i) {
            greatest[i] = fmaxf(greatest[i], __shfl_xor_sync(ALL_LANES, greatest[i], 1));
            greatest[i] = fmaxf(greatest[i], __shfl_xor_sync(ALL_LANES, greatest[i], 2));
            if (t == 0) {
                store_shared_float(maxima + (peer * HEADS + head_warp * 16 + g + 8 * i) * 4, greatest[i]);
            }
        }
        __syncthreads();
        UNROLL
        for (int i = 0; i < 2; ++i) {
            const u32 head = head_warp * 16 + g + 8 * i;
            float grown = maximum[i];
            UNROLL
            for (int other = 0; other < PEERS; ++other) {
                grown = fmaxf(grown, ceilf(load_shared_float(maxima + (other * HEADS + head) * 4)));
            }
            const float growth = exp2_fast(maximum[i] - grown);
            maximum[i] = grown;
            sum[i] *= growth;
            if (peer == 0 && t == 0) store_shared_float(growths + head * 4, growth);
            UNROLL
            for (int j = 0; j < OWN_TOKENS / 8; ++j) {
                const u32 both = pack_bf16(exp2_fast(own[j][2 * i] - grown),
                                           exp2_fast(own[j][2 * i + 1] - grown));
                // What is summed is what the values are multiplied with, rounding and all.
                sum[i] += __uint_as_float(both << 16) + __uint_as_float(both & 0xFFFF0000);
                const int piece = peer * (OWN_TOKENS / 8) + j;
                store_shared_4(weights + head * (TOKENS * 2) + weight_piece(head, piece) + 4 * t, both);
            }
        }
        __syncthreads();
        float growth[OUT_HEADS][2];
        bool grew = false;
        UNROLL
        for (int m = 0; m < OUT_HEADS; ++m) {
            UNROLL
            for (int i = 0; i < 2; ++i) {
                growth[m][i] = load_shared_float(growths + (m * 16 + g + 8 * i) * 4);
                grew |= growth[m][i] != 1.0f;
            }
        }
        if (__any_sync(ALL_LANES, grew)) {
            UNROLL
            for (int m = 0; m < OUT_HEADS; ++m) {
                UNROLL
                for (int n = 0; n < 8; ++n) {
                    UNROLL
                    for (int i = 0; i < 4; ++i) out[m][n][i] *= growth[m][i / 2];
                }
            }
        }
        multiply_values(out, weights, here);
    }

    UNROLL
    for (int m = 0; m < OUT_HEADS; ++m) {
        UNROLL
        for (int i = 0; i < 2; ++i) {
            const int head = m * 16 + g + 8 * i;
            if (head >= heads) continue;
            float* to = a.partials + (first_row + head) * LATENT + warp * 64 + 2 * t;
            UNROLL
            for (int n = 0; n < 8; ++n) {
                *reinterpret_cast<float2*>(to + n * 8) =
                    make_float2(out[m][n][2 * i], out[m][n][2 * i + 1]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < 2; ++i) {
        sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], 1);
        sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], 2);
    }
    UNROLL
    for (int i = 0; i < 2; ++i) {
        if (t == 0) {  // in the place of the maxima, which all have read
            store_shared_float(maxima + (peer * HEADS + head_warp * 16 + g + 8 * i) * 4, sum[i]);
        }
    }
    __syncthreads();
    if (peer == 0 && t == 0) {
        UNROLL
        for (int i = 0; i < 2; ++i) {
            const int head = head_warp * 16 + g + 8 * i;
            if (head >= heads) continue;
            float total = 0.0f;
            UNROLL
            for (int other = 0; other < PEERS; ++other) {
                total += load_shared_float(maxima + (other * HEADS + head) * 4);
            }
            a.statistics[(first_row + head) * 2] = maximum[i];
            a.statistics[(first_row + head) * 2 + 1] = total;
        }
    }
}
