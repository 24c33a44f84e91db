// The host program that a test runs seasonal_ensemble.cu in, its parts in the order of the kernel's source.
#include "arguments.h"
#include "normal.cu"
#include "ranks.cu"
#include "autoregression.cu"
#include "profile.cu"
#include "fourier.cu"
#include "smoothing.cu"
#include "windows.cu"
#include "stack.cu"
#include "seasonal_ensemble.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        seasonal_ensemble(a.doubles(0), a.integers(1), a.doubles(2), a.doubles(3), a.integers(4), a.doubles(5), a.doubles(6),
                          a.doubles(7), a.integers(8), a.doubles(9), a.of<unsigned>(10), a.doubles(11), a.doubles(12),
                          a.doubles(13));
    });
    a.write();
}
