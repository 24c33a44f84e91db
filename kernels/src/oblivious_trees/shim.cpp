// The host program that a test runs oblivious_trees.cu in.
#include "arguments.h"
#include "oblivious_trees.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        oblivious_trees(a.of<unsigned char>(0), a.of<unsigned>(1), a.of<short>(2), a.integers(3), a.of<int>(4));
    });
    a.write();
}
