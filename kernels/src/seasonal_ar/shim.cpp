// The host program that a test runs seasonal_ar.cu in.
#include "arguments.h"
#include "seasonal_ar.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        seasonal_ar(a.doubles(0), a.integers(1), a.doubles(2), a.doubles(3), a.integers(4), a.doubles(5), a.doubles(6),
                    a.doubles(7));
    });
    a.write();
}
