// A launch of a GPU's threads on one CPU thread, for the host build of kernels; host.hpp, which
// stands after it, has the names that kernels use.
//
// Every thread of the grid is a fibre with a stack of its own. All blocks are resident and take
// turns in an order drawn from the launch's seed; a fibre gives way at warp collectives, block
// barriers, relax() and, now and then, at accesses that other blocks can see. The lane that
// completes a collective computes it for all. Where a GPU forgives nothing, neither does this file:
//   * shared memory starts as bytes 0xFF, which are NaN in every format;
//   * copy_async_16 poisons its destination, and the bytes arrive only in the wait that covers it;
//   * misaligned, out-of-range and unregistered addresses, warps whose lanes meet different
//     collectives, copies that nobody waits for, and deadlocks end the launch with a message.
// Weaker than a GPU: memory is sequentially consistent, so a missing fence goes unseen, and all
// blocks are resident, whatever the grid. `__shared__` variables are not known: SHARED_MEMORY only.
//
// For headers that emulate more (host_hopper.hpp), in namespace moeprof_host:
//   current                      the running Fibre (null inside deferred operations)
//   warp_collective(...)         wait for all lanes of a mask, then compute once for all of them
//   block_barrier(which, n, ..)  wait for n threads of the block at barrier `which` (1..15)
//   yield(what, site)            give way inside a loop that waits for another thread
//   wait_until(holds, what, ..)  yield until holds(); `what` is what a deadlock's message says
//   progress()                   "something that another fibre may wait for has changed"
//   defer(operation)             run it later, in random order, between two fibres' turns; capture
//                                pointers, since nobody is `current` then; those of a block that
//                                has ended are a fault
//   shared_pointer(address, bytes, alignment, site), shared_address(pointer), poison(to, bytes)
//   check_global(pointer, bytes, alignment, access, site)
//   fail(site, format, ...)      end the launch with a message; does not return
//   chance(n), random_below(n)   drawn from the seed
//   thread_state<T>(), block_state<T>()   one T per thread or block, made at first use
//   exit_checks                  functions called by every thread as it ends

#include <sys/mman.h>
#include <pthread.h>

#include <algorithm>
#include <any>
#include <array>
#include <bit>
#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) ulonglong2 { u64 x, y; };
struct uint3 { u32 x, y, z; };

// Saves the callee-saved registers and the stack pointer, and takes up another stack.
extern "C" void moeprof_switch(void** from, void* to) __asm__("moeprof_switch");
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
moeprof_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
moeprof_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#else
#error "the host build knows x86-64 and aarch64"
#endif

namespace moeprof_host {

using Site = std::source_location;
#define MOEPROF_SITE moeprof_host::Site site = moeprof_host::Site::current()

constexpr u32 ALL_LANES = 0xFFFFFFFF;
// Shared addresses start above zero, so that an offset that was never made an address is caught.
constexpr u32 SHARED_START = 1024;
constexpr u32 MOST_SHARED_BYTES = 227 * 1024;  // compute capability 9.0 and 10.0; others have less
constexpr size_t STACK_BYTES = 64 * 1024;
constexpr size_t PAGE_BYTES = 16 * 1024;  // a page of any system, or several
// With nothing changed in memory that others watch: polls of every spinning warp, turns of any.
constexpr u64 SPINS_BEFORE_DEADLOCK = 1000, TURNS_BEFORE_DEADLOCK = 20000000;

struct Range {
    u64 address, bytes, writable;
};

struct Request {  // moeprof/kernel/cuda/host.py lays out the same structure
    u32 grid[3], block[3];
    u64 shared_bytes, seed;
    const Range* ranges;
    u64 num_ranges;
    const void* const* arguments;
    const u64* argument_bytes;
    u64 num_arguments;
    char* message;
    u64 message_bytes;
};

struct Copy {
    u8* to;
    const void* from;
    bool valid, early;  // early: the bytes were read when the copy was issued
    u32 group;
    Site site;
    uint4 bytes;
};

struct Warp;
struct Block;

struct Fibre {
    void* stack_pointer;
    Warp* warp;
    Block* block;
    uint3 thread;
    u32 lane;
    const char* waits_for;  // null while it can run
    Site site;
    u32 mask;    // of the collective that it waits in
    void* slot;  // its part of that collective
    u32 barrier_result;
    u32 groups;  // committed
    std::vector<Copy> copies;
    std::any state;
};

struct WarpList {
    std::vector<Warp*> warps;
};

struct Warp {
    Fibre* lanes;
    u32 existing, runnable, spinning, waiting, ended;
    bool descending;
    WarpList* list;  // that it stands in; null while it runs, or when all its lanes wait
    size_t position;
};

struct Barrier {
    std::vector<Fibre*> waiting;
    u32 expected, count;
};

struct Block {
    uint3 index;
    u8* shared;
    u32 alive;
    Barrier barriers[16];
    std::any state;
};

struct Deferred {
    Block* block;
    std::function<void()> operation;
};

struct Fault {};

inline Fibre* current = nullptr;
inline uint3 grid_size, block_size;
inline u32 shared_bytes = 0;
inline std::vector<void (*)()> exit_checks;

static void* scheduler_stack = nullptr;
static WarpList ready, spinners;
static std::vector<Deferred> deferred;
static u64 random_state, changes;
static u32 alive;
static bool failed;
static char* message;
static u64 message_bytes;
static const Range* ranges;
static u64 num_ranges;
static pthread_t launching_thread;
static u32 most_threads = 0;

// xorshift64* (Vigna 2016, "An experimental exploration of Marsaglia's xorshift generators").
inline u32 random_below(u32 n) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    const u32 drawn = static_cast<u32>((random_state * 0x2545F4914F6CDD1Dull) >> 32);
    return static_cast<u32>((static_cast<u64>(drawn) * n) >> 32);
}
inline bool chance(u32 n) { return random_below(n) == 0; }

inline void progress() { ++changes; }

inline void poison(void* to, size_t bytes) { std::memset(to, 0xFF, bytes); }

// ---- faults ---------------------------------------------------------------------------------

[[noreturn]] inline void leave() {
    failed = true;
    if (!current) throw Fault{};
    Fibre* const me = current;
    current = nullptr;
    moeprof_switch(&me->stack_pointer, scheduler_stack);
    __builtin_unreachable();
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_at(
    const char* file, u32 line, const char* format, ...) {
    if (!failed) {
        size_t used = 0;
        const auto add = [&](int written) {
            used = std::min<size_t>(used + std::max(written, 0), message_bytes - 1);
        };
        message[0] = 0;
        if (file) add(std::snprintf(message, message_bytes, "%s:%u: ", file, line));
        if (current) {
            const uint3 b = current->block->index, t = current->thread;
            add(std::snprintf(message + used, message_bytes - used,
                              "block (%u, %u, %u) thread (%u, %u, %u): ", b.x, b.y, b.z, t.x, t.y,
                              t.z));
        }
        va_list values;
        va_start(values, format);
        std::vsnprintf(message + used, message_bytes - used, format, values);
        va_end(values);
    }
    leave();
}

template <class... Values>
[[noreturn, gnu::cold, gnu::noinline]] inline void fail(const Site& site, const char* format,
                                                        Values... values) {
    fail_at(site.file_name(), site.line(), format, values...);
}
template <class... Values>
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_nowhere(const char* format,
                                                                Values... values) {
    fail_at(nullptr, 0, format, values...);
}

// ---- turns ----------------------------------------------------------------------------------

inline void add_to(WarpList& list, Warp* warp) {
    warp->list = &list;
    warp->position = list.warps.size();
    list.warps.push_back(warp);
}

inline void take_out(Warp* warp) {
    std::vector<Warp*>& warps = warp->list->warps;
    warps.back()->position = warp->position;
    warps[warp->position] = warps.back();
    warps.pop_back();
    warp->list = nullptr;
}

inline void to_scheduler() {
    Fibre* const me = current;
    current = nullptr;
    moeprof_switch(&me->stack_pointer, scheduler_stack);
}

// The running fibre is no longer runnable: the next lane of its warp goes on, or another warp.
inline void suspend() {
    Fibre* const me = current;
    const Warp& warp = *me->warp;
    if (!warp.runnable) return to_scheduler();
    const u32 lane = warp.descending
        ? (me->lane - 1 - std::countl_zero(std::rotr(warp.runnable, static_cast<int>(me->lane))))
        : (me->lane + std::countr_zero(std::rotr(warp.runnable, static_cast<int>(me->lane))));
    current = &warp.lanes[lane & 31];
    moeprof_switch(&me->stack_pointer, current->stack_pointer);
}

// Lets others go first, sometimes.
inline void perhaps_give_way(u32 n) {
    if (chance(n)) to_scheduler();
}

inline void wake(Fibre* fibre) {
    Warp* const warp = fibre->warp;
    fibre->waits_for = nullptr;
    warp->runnable |= 1u << fibre->lane;
    if (warp == current->warp || warp->list == &ready) return;
    if (warp->list) take_out(warp);
    add_to(ready, warp);
}

inline void wait_here(const char* what, const Site& site) {
    Fibre* const me = current;
    me->waits_for = what;
    me->site = site;
    me->warp->runnable &= ~(1u << me->lane);
}

inline void yield(const char* what, const Site& site) {
    Fibre* const me = current;
    wait_here(what, site);
    me->warp->spinning |= 1u << me->lane;
    suspend();
    me->waits_for = nullptr;
}

template <class Predicate>
inline void wait_until(Predicate holds, const char* what, const Site& site) {
    while (!holds()) yield(what, site);
}

inline void defer(std::function<void()> operation) {
    deferred.push_back({current->block, std::move(operation)});
}

[[gnu::cold, gnu::noinline]] inline void fail_divergent(const Fibre& mine, const Fibre& other) {
    fail(mine.site, "the warp diverges: %s of lanes 0x%08X, but lane %u is in %s of lanes 0x%08X "
         "at %s:%u", mine.waits_for, mine.mask, other.lane, other.waits_for, other.mask,
         other.site.file_name(), other.site.line());
}

// Waits until all lanes of `mask` have come with the same `what` and mask (and, if `aligned`, from
// the same line); the last of them calls compute(slots), slots[lane] being each lane's `slot`.
template <class Slot, class Compute>
inline void warp_collective(const char* what, u32 mask, bool aligned, Slot& slot, Compute compute,
                            const Site& site) {
    Fibre& me = *current;
    Warp& warp = *me.warp;
    const u32 bit = 1u << me.lane;
    if (!(mask & bit))
        fail(site, "%s: the mask 0x%08X lacks the calling lane %u", what, mask, me.lane);
    if (mask & (warp.ended | ~warp.existing))
        fail(site, "%s: the mask 0x%08X has lanes that have ended or never were", what, mask);
    me.waits_for = what;
    me.site = site;
    me.mask = mask;
    me.slot = &slot;
    warp.waiting |= bit;
    if ((warp.waiting & mask) != mask) {
        warp.runnable &= ~bit;
        suspend();
        return;
    }
    Slot* slots[32];
    for (u32 lane = 0; lane < 32; ++lane) {
        Fibre& other = warp.lanes[lane];
        if (!(mask >> lane & 1)) { slots[lane] = nullptr; continue; }
        if (other.mask != mask || (other.waits_for != what && std::strcmp(other.waits_for, what))
            || (aligned && other.site.line() != site.line()))
            fail_divergent(me, other);
        slots[lane] = static_cast<Slot*>(other.slot);
        other.waits_for = nullptr;
    }
    warp.waiting &= ~mask;
    warp.runnable |= mask;
    compute(slots);
    perhaps_give_way(32);
}

inline void end_barrier(Barrier& barrier) {
    for (Fibre* fibre : barrier.waiting) {
        fibre->barrier_result = barrier.count;
        wake(fibre);
    }
    barrier.waiting.clear();
    barrier.count = 0;
}

// Barrier 0 is that of the whole block: it waits for all threads that have not ended, and wants
// them on one line. Returns how many of the threads came with a true `vote`.
inline u32 block_barrier(u32 which, u32 threads, const char* what, const Site& site,
                         bool vote = false) {
    Fibre* const me = current;
    if (which > 15) fail(site, "%s: barrier %u is not in 0..15", what, which);
    if (which && (threads % 32 || !threads))
        fail(site, "%s: %u threads are no whole number of warps", what, threads);
    Barrier& barrier = me->block->barriers[which];
    const u32 expected = which ? threads : me->block->alive;
    if (!barrier.waiting.empty()) {
        const Fibre& other = *barrier.waiting.front();
        if (which && barrier.expected != threads)
            fail(site, "%s: barrier %u for %u threads, but another waits there for %u", what, which,
                 threads, barrier.expected);
        if (!which && other.site.line() != site.line())
            fail(site, "%s: other threads are at the one of %s:%u", what, other.site.file_name(),
                 other.site.line());
    }
    barrier.expected = threads;
    barrier.count += vote;
    barrier.waiting.push_back(me);
    wait_here(what, site);
    if (barrier.waiting.size() == expected) {
        end_barrier(barrier);
        perhaps_give_way(8);
    } else {
        suspend();
    }
    return me->barrier_result;
}

template <class T>
inline T& thread_state() {
    if (!current->state.has_value()) current->state.emplace<T>();
    return std::any_cast<T&>(current->state);
}

template <class T>
inline T& block_state() {
    if (!current->block->state.has_value()) current->block->state.emplace<T>();
    return std::any_cast<T&>(current->block->state);
}

// ---- addresses ------------------------------------------------------------------------------

enum class Access { READ, WRITE, READ_CONSTANT };  // constant: nobody may write it in this launch

inline u8* shared_pointer(u32 address, u32 bytes, u32 alignment, const Site& site) {
    if (address % alignment)
        fail(site, "shared address %u is no multiple of %u", address, alignment);
    if (address < SHARED_START || address - SHARED_START + static_cast<u64>(bytes) > shared_bytes)
        fail(site, "shared address %u (%lld from the start) and %u bytes leave the %u of the block",
             address, static_cast<long long>(address) - SHARED_START, bytes, shared_bytes);
    return current->block->shared + (address - SHARED_START);
}

inline bool is_shared(const void* pointer) {
    return current && static_cast<u64>(static_cast<const u8*>(pointer) - current->block->shared)
        < shared_bytes;
}

inline const Range* range_of(u64 address, u64 bytes) {
    static const Range* last = nullptr;
    const auto has = [=](const Range& range) {
        return address - range.address < range.bytes
            && bytes <= range.bytes - (address - range.address);
    };
    if (last >= ranges && last < ranges + num_ranges && has(*last)) return last;
    for (u64 i = 0; i < num_ranges; ++i)
        if (has(ranges[i])) return last = &ranges[i];
    return nullptr;
}

inline void check_global(const void* pointer, u64 bytes, u64 alignment, Access access,
                         const Site& site) {
    const u64 address = reinterpret_cast<u64>(pointer);
    if (address % alignment)
        fail(site, "global address 0x%llx is no multiple of %llu", address, alignment);
    if (is_shared(pointer)) fail(site, "a global address is needed, this one is of shared memory");
    if (!num_ranges) return;
    const Range* const range = range_of(address, bytes);
    if (!range)
        fail(site, "%llu bytes at global 0x%llx lie in no registered range", bytes, address);
    if (access == Access::WRITE && !range->writable)
        fail(site, "a write to range %td, which is read-only", range - ranges);
    if (access == Access::READ_CONSTANT && range->writable)
        fail(site, "a non-coherent load from range %td, which this launch writes", range - ranges);
}

template <class T>
inline void check_atomic(T* to, const Site& site) {
    if (reinterpret_cast<u64>(to) % sizeof(T))
        fail(site, "an atomic's address 0x%llx is no multiple of %llu",
             reinterpret_cast<u64>(to), static_cast<u64>(sizeof(T)));
    if (!is_shared(to)) check_global(to, sizeof(T), sizeof(T), Access::WRITE, site);
}

// Reads a value that other threads may be about to change; a loop of these must not hang.
template <class T>
inline T poll(const T* from, const char* what, const Site& site) {
    if (chance(8)) yield(what, site);
    return *static_cast<const volatile T*>(from);
}

template <class T, class Change>
inline T change(T* to, Change changed, const char* what, const Site& site) {
    check_atomic(to, site);
    if (chance(8)) yield(what, site);
    const T before = *to, after = changed(before);
    *to = after;
    if (std::memcmp(&before, &after, sizeof(T))) progress();
    return before;
}

// ---- a launch -------------------------------------------------------------------------------

struct Stacks {
    u8* start = nullptr;
    size_t count = 0;
    static constexpr size_t STRIDE = STACK_BYTES + PAGE_BYTES;

    void reserve(size_t wanted) {
        if (wanted <= count) return;
        if (start) munmap(start, count * STRIDE);
        void* const mapped = mmap(nullptr, wanted * STRIDE, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        start = mapped == MAP_FAILED ? nullptr : static_cast<u8*>(mapped);
        count = start ? wanted : 0;
        // Guards cost mappings, of which Linux allows 65530 to all kernels of a process together.
        if (count && count <= 512)
            for (size_t i = 0; i < count; ++i) mprotect(start + i * STRIDE, PAGE_BYTES, PROT_NONE);
    }
    bool has(u64 address) const { return address - reinterpret_cast<u64>(start) < count * STRIDE; }
};

static Stacks stacks;
static u8* shared_start = nullptr;
static size_t shared_stride = 0, shared_mapped = 0;
static std::function<void()> body;

inline void end_thread() {
    Fibre* const me = current;
    if (!me->copies.empty())
        fail(me->copies.front().site, "%zu copies, the first made here, were never waited for%s",
             me->copies.size(), me->copies.front().group == me->groups ? " nor committed" : "");
    for (void (*check)() : exit_checks) check();
    Warp& warp = *me->warp;
    warp.runnable &= ~(1u << me->lane);
    warp.ended |= 1u << me->lane;
    progress();
    --alive;
    Block& block = *me->block;
    Barrier& barrier = block.barriers[0];
    if (--block.alive && barrier.waiting.size() == block.alive) end_barrier(barrier);
    if (block.alive) return;
    for (const u8* p = block.shared + shared_bytes;
         p < block.shared + shared_stride - PAGE_BYTES; ++p)
        if (*p != 0xFF)
            fail_nowhere("byte %td of shared memory, beyond the %u of the block, was written",
                         p - block.shared, shared_bytes);
    for (const Deferred& one : deferred)
        if (one.block == &block) fail_nowhere("the block ends before its bulk copies");
}

inline void fibre_main() {
    body();
    end_thread();
    suspend();
    __builtin_unreachable();
}

inline void* fresh_stack(u8* top) {
    void** stack = reinterpret_cast<void**>(top);
#if defined(__x86_64__)
    *--stack = nullptr;  // as after a call, the stack pointer is no multiple of 16
    *--stack = reinterpret_cast<void*>(fibre_main);
    for (int i = 0; i < 6; ++i) *--stack = nullptr;
#else
    stack -= 20;
    std::fill(stack, stack + 20, nullptr);
    stack[11] = reinterpret_cast<void*>(fibre_main);
#endif
    return stack;
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_deadlocked(
    const std::vector<Fibre>& fibres) {
    std::map<std::string, u32> groups;
    for (const Fibre& fibre : fibres) {
        if (fibre.warp->ended >> fibre.lane & 1) continue;
        const uint3 b = fibre.block->index;
        char text[256];
        std::snprintf(text, sizeof text, "block (%u, %u, %u): %s at %s:%u", b.x, b.y, b.z,
                      fibre.waits_for ? fibre.waits_for : "running", fibre.site.file_name(),
                      fibre.site.line());
        ++groups[text];
    }
    std::string all;
    u32 shown = 0;
    for (const auto& [text, count] : groups) {
        if (++shown > 12) { all += "; ..."; break; }
        all += (shown > 1 ? "; " : "") + std::to_string(count) + " of " + text;
    }
    fail_nowhere("deadlock: of the threads wait %s", all.c_str());
}

inline void take_turns(const std::vector<Fibre>& fibres) {
    u64 seen = changes, spins = 0, last_change = 0;
    Warp* slow = nullptr;
    for (u64 turn = 0; alive; ++turn) {
        if (!deferred.empty() && (ready.warps.empty() || chance(4))) {
            const size_t one = random_below(static_cast<u32>(deferred.size()));
            std::swap(deferred[one], deferred.back());
            const Deferred next = std::move(deferred.back());
            deferred.pop_back();
            next.operation();
            progress();
        }
        const bool poll = ready.warps.empty() || (!spinners.warps.empty() && chance(8));
        WarpList& list = poll ? spinners : ready;
        if (seen != changes) { seen = changes; spins = 0; last_change = turn; }
        if (turn - last_change > TURNS_BEFORE_DEADLOCK) fail_deadlocked(fibres);
        if (list.warps.empty()) {
            if (!deferred.empty()) continue;
            fail_deadlocked(fibres);
        }
        if (ready.warps.empty() && deferred.empty()
            && ++spins > SPINS_BEFORE_DEADLOCK * spinners.warps.size())
            fail_deadlocked(fibres);
        // One warp is held back for a while: others then overtake it by far.
        if (turn % 256 == 0) slow = list.warps[random_below(static_cast<u32>(list.warps.size()))];
        Warp* warp = list.warps[random_below(static_cast<u32>(list.warps.size()))];
        if (warp == slow && !chance(16))
            warp = list.warps[random_below(static_cast<u32>(list.warps.size()))];
        take_out(warp);
        warp->runnable |= warp->spinning;
        warp->spinning = 0;
        warp->descending = chance(2);
        const int turned = static_cast<int>(random_below(32));
        const u32 lane = (turned + std::countr_zero(std::rotr(warp->runnable, turned))) & 31;
        current = &warp->lanes[lane];
        moeprof_switch(&scheduler_stack, current->stack_pointer);
        if (failed) throw Fault{};
        if (warp->runnable) add_to(ready, warp);
        else if (warp->spinning) add_to(spinners, warp);
    }
    if (!deferred.empty()) fail_nowhere("the launch ends before its bulk copies");
}

// ---- crashes, and what the compiler's checks find ---------------------------------------------

inline void on_signal(int number, siginfo_t* info, void*) {
    if (!current || !pthread_equal(pthread_self(), launching_thread)) {
        std::signal(number, SIG_DFL);  // not ours: it happens again on return, and ends the process
        return;
    }
    const u64 address = reinterpret_cast<u64>(info->si_addr);
    const Site& site = current->site;
    if (stacks.has(address)) fail(site, "after this: more stack than %zu bytes", STACK_BYTES);
    if (address - reinterpret_cast<u64>(shared_start) < shared_mapped)
        fail(site, "after this: an access beyond shared memory");
    const char* const what = number == SIGFPE ? "a division by zero"
        : number == SIGILL ? "a trap" : "an access to no memory";
    fail(site, "after this: %s (signal %d) at address 0x%llx", what, number, address);
}

struct CrashWatch {
    static constexpr int NUMBERS[4] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before[4];
    stack_t stack_before;
    std::vector<u8> stack = std::vector<u8>(64 * 1024);

    CrashWatch() {
        stack_t mine{};
        mine.ss_sp = stack.data();
        mine.ss_size = stack.size();
        sigaltstack(&mine, &stack_before);
        struct sigaction action{};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 4; ++i) sigaction(NUMBERS[i], &action, &before[i]);
    }
    ~CrashWatch() {
        for (int i = 0; i < 4; ++i) sigaction(NUMBERS[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

struct SourceLocation {  // what the compiler's handlers are given first
    const char* file;
    u32 line, column;
};

// What runs the kernel on a copy of its arguments, which the copy aligns as a driver does.
template <class... Parameters, size_t... I>
inline std::function<void()> bound(void (*kernel)(Parameters...), const Request& r,
                                   std::index_sequence<I...>) {
    auto copies = std::make_shared<std::tuple<std::remove_cvref_t<Parameters>...>>();
    (std::memcpy(&std::get<I>(*copies), r.arguments[I], sizeof(std::get<I>(*copies))), ...);
    return [=] { kernel(std::get<I>(*copies)...); };
}

inline void prepare(const Request& r, std::vector<Block>& blocks, std::vector<Warp>& warps,
                    std::vector<Fibre>& fibres) {
    const u32 threads = r.block[0] * r.block[1] * r.block[2], per_block = (threads + 31) / 32;
    stacks.reserve(fibres.size());
    if (!stacks.start) fail_nowhere("no memory for %zu stacks", fibres.size());
    shared_stride = (shared_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES;
    const size_t wanted = shared_stride * blocks.size();
    void* const mapped = mmap(nullptr, wanted, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) fail_nowhere("no memory for the blocks' shared memory");
    shared_start = static_cast<u8*>(mapped);
    shared_mapped = wanted;
    for (size_t i = 0; i < blocks.size(); ++i) {
        Block& block = blocks[i];
        const u32 b = static_cast<u32>(i);
        block.index = {b % r.grid[0], b / r.grid[0] % r.grid[1], b / r.grid[0] / r.grid[1]};
        block.shared = shared_start + i * shared_stride;
        block.alive = threads;
        poison(block.shared, shared_stride - PAGE_BYTES);
        mprotect(block.shared + shared_stride - PAGE_BYTES, PAGE_BYTES, PROT_NONE);
        for (u32 t = 0; t < threads; ++t) {
            const size_t number = i * threads + t;
            Fibre& fibre = fibres[number];
            fibre.warp = &warps[i * per_block + t / 32];
            fibre.block = &block;
            fibre.lane = t % 32;
            const u32 row = t / r.block[0];
            fibre.thread = {t % r.block[0], row % r.block[1], row / r.block[1]};
            // Stacks that start at equal addresses modulo 4096 would share a few cache lines.
            fibre.stack_pointer = fresh_stack(stacks.start + (number + 1) * Stacks::STRIDE
                                              - number % 15 * 272);
            if (fibre.lane == 0) fibre.warp->lanes = &fibre;
            fibre.warp->existing |= 1u << fibre.lane;
        }
    }
    for (Warp& warp : warps) {
        warp.runnable = warp.existing;
        add_to(ready, &warp);
    }
}

template <class... Parameters>
inline int launch(const Request& r, void (*kernel)(Parameters...)) {
    const u64 threads = static_cast<u64>(r.block[0]) * r.block[1] * r.block[2];
    const u64 count = static_cast<u64>(r.grid[0]) * r.grid[1] * r.grid[2];
    grid_size = {r.grid[0], r.grid[1], r.grid[2]};
    block_size = {r.block[0], r.block[1], r.block[2]};
    shared_bytes = static_cast<u32>(r.shared_bytes);
    ranges = r.ranges;
    num_ranges = r.num_ranges;
    message = r.message;
    message_bytes = r.message_bytes;
    launching_thread = pthread_self();
    current = nullptr;
    failed = false;
    changes = 0;
    random_state = (r.seed + 1) * 0x9E3779B97F4A7C15ull | 1;
    ready.warps.clear();
    spinners.warps.clear();
    deferred.clear();
    try {
        if (!count || !threads || threads > most_threads)
            fail_nowhere("%llu blocks of %llu threads; KERNEL allows 1..%u", count, threads,
                    most_threads);
        if (r.shared_bytes > MOST_SHARED_BYTES)
            fail_nowhere("%llu bytes of shared memory; the most a block can have is %u",
                    r.shared_bytes, MOST_SHARED_BYTES);
        constexpr u64 SIZES[] = {sizeof(std::remove_cvref_t<Parameters>)..., 0};
        if (r.num_arguments != sizeof...(Parameters))
            fail_nowhere("%llu arguments; the kernel has %zu", r.num_arguments,
                    sizeof...(Parameters));
        for (u64 i = 0; i < r.num_arguments; ++i)
            if (r.argument_bytes[i] != SIZES[i])
                fail_nowhere("argument %llu has %llu bytes; the kernel's has %llu", i,
                        r.argument_bytes[i], SIZES[i]);
        body = bound(kernel, r, std::index_sequence_for<Parameters...>{});
        std::vector<Block> blocks(count);
        std::vector<Warp> warps(count * ((threads + 31) / 32));
        std::vector<Fibre> fibres(count * threads);
        alive = static_cast<u32>(fibres.size());
        const CrashWatch watch;
        prepare(r, blocks, warps, fibres);
        take_turns(fibres);
    } catch (const Fault&) {
    }
    deferred.clear();
    if (shared_start) munmap(shared_start, shared_mapped);
    shared_start = nullptr;
    return failed;
}

struct Bounds {
    explicit Bounds(u32 threads) { most_threads = std::max(most_threads, threads); }
};

}  // namespace moeprof_host

#define MOEPROF_HOST_BOUNDS(number, threads) MOEPROF_HOST_BOUNDS_OF(number, threads)
#define MOEPROF_HOST_BOUNDS_OF(number, threads) \
    static const moeprof_host::Bounds moeprof_bounds_##number(threads);
#define MOEPROF_HOST_ENTRY(kernel)                                                \
    extern "C" __attribute__((visibility("default"))) int moeprof_launch(         \
        const moeprof_host::Request* request) {                                   \
        return moeprof_host::launch(*request, kernel);                            \
    }

// The compiler's own checks (-fsanitize) call these; there is no other runtime of theirs here.
#define MOEPROF_CHECK(name, text)                                                          \
    extern "C" __attribute__((visibility("hidden"), used)) void __ubsan_handle_##name##_abort( \
        const moeprof_host::SourceLocation* at, ...) {                                     \
        moeprof_host::fail_at(at->file, at->line, text);                                   \
    }
MOEPROF_CHECK(type_mismatch_v1, "an access to a misaligned address")
MOEPROF_CHECK(out_of_bounds, "an index beyond its array")
MOEPROF_CHECK(shift_out_of_bounds, "a shift by more than the value's bits")
MOEPROF_CHECK(divrem_overflow, "a division by zero")
