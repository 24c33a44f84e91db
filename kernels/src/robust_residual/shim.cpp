// The host program that a test runs robust_residual.cu in.
#include "arguments.h"
#include "robust_residual.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        robust_residual(a.doubles(0), a.integers(1), a.integers(2), a.integers(3), a.doubles(4), a.doubles(5),
                        a.integers(6), a.doubles(7), a.doubles(8));
    });
    a.write();
}
