// The CUDA twin of the forward pass: one block per row, one thread per unit; a row's activations stay in shared memory.
//
// sizes: rows, widths (how many), then every width. parameters: layer after layer, weights input after input, then biases;
// neighbouring threads read neighbouring weights. Each unit adds its inputs in their order.

#define WIDTH_MAX 256

extern "C" __global__ void __launch_bounds__(256)
dense_network(const double* inputs, const double* parameters, const long long* sizes, double* outputs) {
    __shared__ double activations[2][WIDTH_MAX];
    const long long rows = sizes[0], last = sizes[1] - 1;
    const long long* widths = sizes + 2;
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        for (long long i = threadIdx.x; i < widths[0]; i += blockDim.x) activations[0][i] = inputs[row * widths[0] + i];
        __syncthreads();
        const double* own = parameters;
        for (long long layer = 0; layer < last; layer++) {
            const long long width = widths[layer], units = widths[layer + 1];
            const double* from = activations[layer & 1];
            double* to = activations[(layer + 1) & 1];
            for (long long unit = threadIdx.x; unit < units; unit += blockDim.x) {
                double z = own[width * units + unit];
                for (long long i = 0; i < width; i++) z += from[i] * own[i * units + unit];
                to[unit] = layer + 1 < last ? z / (1.0 + fabs(z)) : z;
            }
            own += (width + 1) * units;
            __syncthreads();
        }
        const double* end = activations[last & 1];
        for (long long i = threadIdx.x; i < widths[last]; i += blockDim.x) outputs[row * widths[last] + i] = end[i];
        __syncthreads();
    }
}
