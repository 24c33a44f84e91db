// The number of a rank among many, as a sort in the order of all numbers (total_cmp) would find it.

#define DIGITS 256
#define SIGN (1ull << 63)

// Integers in the order of the numbers.
__device__ unsigned long long key_of(double v) {
    const unsigned long long bits = (unsigned long long)__double_as_longlong(v);
    return bits & SIGN ? ~bits : bits | SIGN;
}

__device__ double of_key(unsigned long long key) {
    return __longlong_as_double((long long)(key & SIGN ? key & ~SIGN : ~key));
}

// The number of rank `rank` among value(0) … value(count - 1), eight bits at a time, by the threads of a warp or of the block:
// thread `thread` of `threads`. `counts` has room for DIGITS.
template <class Value>
__device__ double ranked(Value value, int count, int rank, unsigned* counts, int thread, int threads) {
    const auto wait = [&] {
        if (threads == WARP)
            __syncwarp();
        else
            __syncthreads();
    };
    unsigned long long prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (int i = thread; i < DIGITS; i += threads) counts[i] = 0;
        wait();
        for (int i = thread; i < count; i += threads) {
            const unsigned long long key = key_of(value(i));
            if (shift == 56 || key >> (shift + 8) == prefix >> (shift + 8)) atomicAdd(&counts[key >> shift & 255], 1u);
        }
        wait();
        // Every thread counts alike, so that all know the digit.
        int digit = 0;
        while (digit < DIGITS - 1 && rank >= (int)counts[digit]) rank -= (int)counts[digit++];
        prefix |= (unsigned long long)digit << shift;
        wait();
    }
    return of_key(prefix);
}
