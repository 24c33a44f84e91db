// The host program that a test runs pelt.cu in.
#include "arguments.h"
#include "pelt.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        pelt(a.doubles(0), a.integers(1), a.doubles(2), a.integers(3), a.doubles(4), a.doubles(5));
    });
    a.write();
}
