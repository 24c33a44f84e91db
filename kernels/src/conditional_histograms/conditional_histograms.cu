// The CUDA twin: one thread per row adds up the surprises of its codes, features in ascending order.
//
// sizes: rows, features, number of the entity that was never seen. codes: features x rows. nats: entity x feature x 64.

extern "C" __global__ void conditional_histograms(const unsigned char* codes, const unsigned* entities,
                                                  const float* nats, const double* rarities, const long long* sizes,
                                                  double* sums) {
    const long long rows = sizes[0], features = sizes[1], unseen = sizes[2];
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x; row < rows; row += stride) {
        const long long entity = entities[row] < unseen ? entities[row] : unseen;
        double sum = rarities[entity];
        for (long long feature = 0; feature < features; feature++)
            sum += nats[(entity * features + feature) * 64 + codes[feature * rows + row]];
        sums[row] = sum;
    }
}
