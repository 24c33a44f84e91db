// The host program that a test runs isolation_forest.cu in.
#include "arguments.h"
#include "isolation_forest.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        isolation_forest(a.of<float>(0), a.of<unsigned>(1), a.of<float>(2), a.of<float>(3), a.integers(4), a.doubles(5));
    });
    a.write();
}
