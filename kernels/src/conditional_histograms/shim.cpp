// The host program that a test runs conditional_histograms.cu in.
#include "arguments.h"
#include "conditional_histograms.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        conditional_histograms(a.of<unsigned char>(0), a.of<unsigned>(1), a.of<float>(2), a.doubles(3), a.integers(4),
                               a.doubles(5));
    });
    a.write();
}
