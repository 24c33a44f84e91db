// The host program that a test runs seasonal_ensemble.cu in.
#include "arguments.h"
#include "seasonal_ensemble.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        seasonal_ensemble(a.doubles(0), a.integers(1), a.doubles(2), a.integers(3), a.doubles(4), a.doubles(5));
    });
    a.write();
}
