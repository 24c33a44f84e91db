// The host program that a test runs dense_network.cu in.
#include "arguments.h"
#include "dense_network.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] { dense_network(a.doubles(0), a.doubles(1), a.integers(2), a.doubles(3)); });
    a.write();
}
