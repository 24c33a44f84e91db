// The host program that a test runs beaconing.cu in.
#include "arguments.h"
#include "beaconing.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        beaconing(a.doubles(0), a.integers(1), a.doubles(2), a.integers(3), a.doubles(4), a.integers(5), a.doubles(6),
                  a.doubles(7));
    });
    a.write();
}
