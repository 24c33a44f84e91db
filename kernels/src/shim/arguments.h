// The arguments of a kernel on their way from a test to the host shim and back.
//
// Standard input: blocks and threads, the number of arrays, then each array as its length in bytes and its bytes, filled
// up to whole eight-byte words; all numbers little-endian, eight bytes. Standard output: the bytes of every array after
// the run, in the same order, filled up alike.
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
            array.resize((word() + 7) / 8);
            for (auto& value : array) value = word();
        }
    }

    template <class T>
    T* of(size_t i) {
        return reinterpret_cast<T*>(arrays.at(i).data());
    }

    double* doubles(size_t i) { return of<double>(i); }
    long long* integers(size_t i) { return of<long long>(i); }

    void write() const {
        for (const auto& array : arrays) fwrite(array.data(), sizeof(uint64_t), array.size(), stdout);
    }
};
