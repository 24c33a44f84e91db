// The arguments of a kernel on their way from a test to the host shim and back.
//
// Standard input: blocks and threads, the number of arrays, then each array as its length in eight-byte words and its
// words; all little-endian, eight bytes. Standard output: the words of every array after the run, in the same order.
#pragma once
#include "simt.h"

struct Arguments {
    uint64_t blocks, threads;
    std::vector<std::vector<uint64_t>> arrays;

    static uint64_t word() {
        uint64_t value;
        if (fread(&value, sizeof value, 1, stdin) != 1) abort();
        return value;
    }

    Arguments() : blocks(word()), threads(word()), arrays(word()) {
        for (auto& array : arrays) {
            array.resize(word());
            for (auto& value : array) value = word();
        }
    }

    double* doubles(size_t i) { return reinterpret_cast<double*>(arrays.at(i).data()); }
    long long* integers(size_t i) { return reinterpret_cast<long long*>(arrays.at(i).data()); }

    void write() const {
        for (const auto& array : arrays) fwrite(array.data(), sizeof(uint64_t), array.size(), stdout);
    }
};
