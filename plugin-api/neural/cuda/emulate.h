// CUDA's words for a C++ compiler: kernels.cu runs on the CPU, one block after the other, one thread after the other.
//
// That is enough because kernels.cu keeps what a thread does in EACH_THREAD blocks: each becomes a loop over the threads of
// the block, so everything before a SYNC() is done by all of them before anything after it.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define __device__
#define __global__
#define __shared__ static thread_local
#define EACH_THREAD for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
#define SYNC()

struct Index { unsigned x = 0, y = 0, z = 0; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }

// Runs a kernel as cuLaunchKernel takes it: the grid, the threads of a block, and a pointer to every argument.
template <class... A, size_t... I>
void emulate(void (*kernel)(A...), unsigned x, unsigned y, unsigned threads, void **arguments, std::index_sequence<I...>) {
    gridDim = {x, y, 1};
    blockDim = {threads, 1, 1};
    for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x) kernel(*static_cast<A *>(arguments[I])...);
}
template <class... A> constexpr size_t arity(void (*)(A...)) { return sizeof...(A); }

// The function `launch_<kernel>` that a test finds in the compiled library; gives back the number of arguments.
#define LAUNCHER(kernel)                                                                                                 \
    extern "C" uint64_t launch_##kernel(unsigned x, unsigned y, unsigned threads, void **arguments, uint64_t given) {    \
        constexpr size_t count = arity(kernel);                                                                          \
        if (given == count) emulate(kernel, x, y, threads, arguments, std::make_index_sequence<count>());                \
        return count;                                                                                                    \
    }
