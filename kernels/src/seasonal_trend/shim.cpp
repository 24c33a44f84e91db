// The host program that a test runs seasonal_trend.cu in.
#include "arguments.h"
#include "seasonal_trend.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        seasonal_trend(a.doubles(0), a.of<unsigned char>(1), a.integers(2), a.integers(3), a.doubles(4), a.doubles(5));
    });
    a.write();
}
