// The CUDA twins of both models of texts: one thread reads one text, byte after byte. Only log may round differently.
//
// texts: the bytes of all texts. offsets: where each starts, and the end of the last. sizes: how many texts.

#define LONGEST 5
#define ORDER 3
#define BACK_OFF 4.0

typedef unsigned long long u64;

// One round of mixing, as in splitmix.rs.
__device__ u64 mixed(u64 bits) {
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ULL;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBULL;
    return bits ^ (bits >> 31);
}

// The margin of every text; `bias` is one number.
extern "C" __global__ void linear_margins(const unsigned char* texts, const long long* offsets, const float* weights,
                                          const double* bias, const long long* sizes, double* margins) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < sizes[0]; i += stride) {
        const long long start = offsets[i], length = offsets[i + 1] - start;
        u64 last = 0;
        double sum = 0.0;
        long long grams = 0;
        for (long long at = 0; at < length + 2; at++) {
            const u64 byte = at == 0 ? 2 : at == length + 1 ? 3 : texts[start + at - 1];
            last = last << 8 | byte;
            for (int size = 1; size <= LONGEST && size <= at + 1; size++, grams++) {
                const u64 gram = last & ((1ULL << (8 * size)) - 1);
                sum += weights[mixed(gram | (u64)size << 56) >> 48];
            }
        }
        margins[i] = sum * (1.0 / sqrt((double)(grams > 1 ? grams : 1))) + bias[0];
    }
}

// Where the count of a gram is.
__device__ u64 bucket(u64 gram, u64 length, u64 view, u64 kind) {
    return mixed(gram | length << 40 | view << 48 | kind << 56 | 1ULL << 60) >> 47;
}

// The symbol of a byte's class.
__device__ u64 symbol_of(u64 byte) {
    if (byte >= 'a' && byte <= 'z') return 'a';
    if (byte >= 'A' && byte <= 'Z') return 'A';
    if (byte >= '0' && byte <= '9') return '0';
    return byte >= 128 ? 128 : byte;
}

// The surprise of a text as it is (view 0) or by class (view 1).
__device__ double surprise(const unsigned char* text, long long length, const unsigned* counts, int view) {
    u64 last = 0x02020202ULL;
    double sum = 0.0;
    for (long long at = 0; at <= length; at++) {
        const u64 byte = at < length ? text[at] : 3, context = last;
        last = (last << 8 | (view == 0 ? byte : symbol_of(byte))) & 0xffffffffULL;
        double p = 1.0 / 257.0;
        for (int order = 0; order <= ORDER; order++) {
            const u64 before = context & ((1ULL << (8 * order)) - 1), gram = last & ((1ULL << (8 * (order + 1))) - 1);
            const double known = counts[bucket(before, order, view, 0)];
            p = (counts[bucket(gram, order, view, 1)] + BACK_OFF * p) / (known + BACK_OFF);
            // A context that was never seen has no longer one that was.
            if (!(known > 0.0)) break;
        }
        sum += fmax(-log(fmin(p, 1.0)) - (view == 0 ? 4.0 : 2.0), 0.0);
    }
    return sum;
}

// The surprise of every text.
extern "C" __global__ void reader_surprises(const unsigned char* texts, const long long* offsets,
                                            const unsigned* counts, const long long* sizes, double* surprises) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < sizes[0]; i += stride) {
        const unsigned char* text = texts + offsets[i];
        const long long length = offsets[i + 1] - offsets[i];
        surprises[i] = surprise(text, length, counts, 0) + surprise(text, length, counts, 1);
    }
}
