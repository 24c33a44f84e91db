// The host program that a test runs oblivious_trees.cu in: arguments come as eight-byte words.
#include "arguments.h"
#include "oblivious_trees.cu"

template <class T>
std::vector<T> narrowed(const std::vector<uint64_t>& words) {
    std::vector<T> values;
    for (const uint64_t word : words) values.push_back(static_cast<T>(static_cast<int64_t>(word)));
    return values;
}

int main() {
    Arguments a;
    const auto codes = narrowed<unsigned char>(a.arrays.at(0));
    const auto questions = narrowed<unsigned>(a.arrays.at(1));
    const auto leaves = narrowed<short>(a.arrays.at(2));
    std::vector<int> sums(a.arrays.at(4).size());
    simt::launch(a.blocks, a.threads, [&] {
        oblivious_trees(codes.data(), questions.data(), leaves.data(), a.integers(3), sums.data());
    });
    for (size_t row = 0; row < sums.size(); row++) a.doubles(4)[row] = sums[row];
    a.write();
}
