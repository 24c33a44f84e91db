// The host program that a test runs hashed_ngrams.cu in: six arrays are those of the linear model, five of the reader.
#include "arguments.h"
#include "hashed_ngrams.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        if (a.arrays.size() == 6)
            linear_margins(a.of<unsigned char>(0), a.integers(1), a.of<float>(2), a.doubles(3), a.integers(4),
                           a.doubles(5));
        else
            reader_surprises(a.of<unsigned char>(0), a.integers(1), a.of<unsigned>(2), a.integers(3), a.doubles(4));
    });
    a.write();
}
