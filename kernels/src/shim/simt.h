// Runs a CUDA kernel on the host, for tests on machines without a GPU: every CUDA thread is a fiber, blocks run one after
// the other. Fibers start by ucontext and change by _setjmp and _longjmp, which ask the system for nothing. It knows what the kernels of this crate use: one-dimensional grids and blocks, static shared
// memory, __syncthreads, __syncwarp and shuffles of whole warps. A barrier that not all threads reach is reported, not
// waited for.
//
// Invariant: no parallelism and no clock, so a run is repeatable; it checks a kernel's logic, never its races or its
// speed.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

namespace simt {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 64 * 1024;

struct Index {
    unsigned x;
};

enum class Wait { none, warp, block };

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool started = false;
    Wait wait = Wait::none;
    bool done = false;
    uint64_t slot = 0;
};

// The block that runs now.
struct Block {
    std::vector<Fiber> fibers;
    std::vector<char> stacks;
    jmp_buf scheduler;
    std::function<void()> body;
    int current = 0;
    Index block{0}, blocks{0}, threads{0};
};

inline Block now;

inline Fiber& self() { return now.fibers[now.current]; }

// Leaves the running fiber until its barrier opens.
__attribute__((noinline)) inline void wait(Wait barrier) {
    self().wait = barrier;
    if (_setjmp(self().place) == 0) _longjmp(now.scheduler, 1);
}

inline void enter() {
    now.body();
    self().done = true;
    _longjmp(now.scheduler, 1);
}

// Runs the current fiber until it waits or ends.
__attribute__((noinline)) inline void resume() {
    if (_setjmp(now.scheduler) != 0) return;
    Fiber& fiber = self();
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}

// Opens the barrier of the fibers from `first` to `last` if every one that has not ended waits at it.
inline bool open(Wait barrier, int first, int last) {
    bool any = false;
    for (int i = first; i < last; i++) {
        if (now.fibers[i].done) continue;
        if (now.fibers[i].wait != barrier) return false;
        any = true;
    }
    for (int i = first; i < last; i++) {
        if (now.fibers[i].wait == barrier) now.fibers[i].wait = Wait::none;
    }
    return any;
}

// Runs every fiber that can run until all have ended.
inline void run_block() {
    const int count = static_cast<int>(now.fibers.size());
    int left = count;
    while (left > 0) {
        bool progress = false;
        for (now.current = 0; now.current < count; now.current++) {
            Fiber& fiber = self();
            if (fiber.done || fiber.wait != Wait::none) continue;
            resume();
            progress = true;
            if (fiber.done) left--;
        }
        for (int first = 0; first < count; first += WARP) progress |= open(Wait::warp, first, first + WARP);
        progress |= left > 0 && open(Wait::block, 0, count);
        if (!progress) {
            fprintf(stderr, "a barrier was not reached by all threads of block %u\n", now.block.x);
            abort();
        }
    }
}

// kernel<<<blocks, threads>>>(); the threads of a block must be whole warps.
inline void launch(unsigned blocks, unsigned threads, std::function<void()> kernel) {
    if (threads % WARP != 0) abort();
    now.body = std::move(kernel);
    now.blocks = {blocks};
    now.threads = {threads};
    now.stacks.resize(threads * STACK_BYTES);
    for (now.block = {0}; now.block.x < blocks; now.block.x++) {
        now.fibers.assign(threads, Fiber());
        for (unsigned i = 0; i < threads; i++) {
            ucontext_t& context = now.fibers[i].context;
            getcontext(&context);
            context.uc_stack.ss_sp = now.stacks.data() + i * STACK_BYTES;
            context.uc_stack.ss_size = STACK_BYTES;
            makecontext(&context, enter, 0);
        }
        run_block();
    }
}

// What lane `source` of this warp passed to the same shuffle.
template <class T>
T shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most eight bytes");
    if (mask != 0xffffffffu) abort();
    memcpy(&self().slot, &value, sizeof value);
    wait(Wait::warp);
    T result;
    memcpy(&result, &now.fibers[(now.current & ~(WARP - 1)) + (source & (WARP - 1))].slot, sizeof result);
    wait(Wait::warp);
    return result;
}

}  // namespace simt

#define threadIdx (simt::Index{static_cast<unsigned>(simt::now.current)})
#define blockIdx (simt::now.block)
#define blockDim (simt::now.threads)
#define gridDim (simt::now.blocks)

inline void __syncthreads() { simt::wait(simt::Wait::block); }
inline void __syncwarp() { simt::wait(simt::Wait::warp); }
// Threads run one after the other here, so that memory is always in order.
inline void __threadfence() {}

template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
    return simt::shuffle(mask, value, source);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return simt::shuffle(mask, value, (simt::now.current & (simt::WARP - 1)) ^ lanes);
}

// Adds to a counter and returns what it held; threads run one after the other here.
inline unsigned atomicAdd(unsigned* counter, unsigned value) {
    const unsigned before = *counter;
    *counter += value;
    return before;
}

inline long long __double_as_longlong(double value) {
    long long bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline double __longlong_as_double(long long bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
