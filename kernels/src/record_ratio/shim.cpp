// The host program that a test runs record_ratio.cu in.
#include "arguments.h"
#include "record_ratio.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        record_ratio(a.doubles(0), a.integers(1), a.integers(2), a.doubles(3), a.doubles(4), a.doubles(5), a.integers(6),
                     a.doubles(7), a.doubles(8));
    });
    a.write();
}
