// The CUDA twin of inference: one thread per row, all trees; codes of neighbouring rows are neighbours in memory.
//
// sizes: rows, features, trees. codes: features x rows. questions: trees x 6 words, feature in the low 16 bits and cut
// above. leaves: trees x 64. Sums are integers, so that the order does not matter.

extern "C" __global__ void oblivious_trees(const unsigned char* codes, const unsigned* questions, const short* leaves,
                                           const long long* sizes, int* sums) {
    const long long rows = sizes[0], trees = sizes[2];
    const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long row = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; row < rows; row += stride) {
        int sum = 0;
        for (long long tree = 0; tree < trees; tree++) {
            unsigned leaf = 0;
            for (int level = 0; level < 6; level++) {
                const unsigned question = questions[tree * 6 + level];
                const unsigned code = codes[static_cast<long long>(question & 0xffffu) * rows + row];
                leaf |= static_cast<unsigned>(code > (question >> 16)) << level;
            }
            sum += leaves[tree * 64 + leaf];
        }
        sums[row] = sum;
    }
}
