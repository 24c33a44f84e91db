// The host program that a test runs explain_away.cu in.
#include "arguments.h"
#include "explain_away.cu"

int main() {
    Arguments a;
    simt::launch(a.blocks, a.threads, [&] {
        explain_away(a.doubles(0), a.integers(1), a.doubles(2), a.integers(3), a.doubles(4), a.integers(5), a.doubles(6));
    });
    a.write();
}
