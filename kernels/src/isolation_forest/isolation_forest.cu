// The CUDA twin of scoring: one thread per row adds up its paths, trees in ascending order.
//
// sizes: rows, features, trees. seen: features x rows, as the cuts see them. questions: trees x 255 nodes, node n with the
// children 2n + 1 and 2n + 2. ends: trees x 256 path lengths.

#define LEVELS 8
#define NODES 255

extern "C" __global__ void isolation_forest(const float* seen, const unsigned* questions, const float* cuts,
                                            const float* ends, const long long* sizes, double* paths) {
    const long long rows = sizes[0], trees = sizes[2];
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x; row < rows; row += stride) {
        double path = 0.0;
        for (long long tree = 0; tree < trees; tree++) {
            int node = 0;
            for (int level = 0; level < LEVELS; level++) {
                const long long at = tree * NODES + node;
                node = 2 * node + 1 + (seen[questions[at] * rows + row] > cuts[at] ? 1 : 0);
            }
            path += ends[tree * (NODES + 1) + node - NODES];
        }
        paths[row] = path;
    }
}
