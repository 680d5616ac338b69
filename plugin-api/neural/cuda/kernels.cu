// What networks on NVIDIA cards need and Candle lacks there: borders, instance norm, attention over channels and pixels.
//
// kernels.ptx is made of this file (build.sh --ptx) and checked in, so that only who changes a kernel needs nvcc.
// The same text is also C++: a test compiles it with emulate.h and runs every kernel on the CPU. Therefore a discipline:
// what a thread does stands in an EACH_THREAD block, SYNC() stands between such blocks, and nothing of a thread lives
// across SYNC() but in shared memory. There is no early return.
//
// Pictures are [plane][row][column]. Grid y counts planes (or pictures, where said), grid x blocks of pixels.
#ifdef __CUDACC__
#define EACH_THREAD
#define SYNC() __syncthreads()
#else
#include "emulate.h"
#endif

// Threads of a block in the kernels that reduce a plane.
#define REDUCERS 512
// The largest hidden layer of channel attention.
#define HIDDEN 512

// bf16 as its bits: the upper half of a float.
struct bf16 { unsigned short bits; };

__device__ inline float load(const float *from, size_t i) { return from[i]; }
__device__ inline float load(const bf16 *from, size_t i) { return __uint_as_float((unsigned)from[i].bits << 16); }
__device__ inline void store(float *to, size_t i, float x) { to[i] = x; }
// To the nearest, ties to even; NaN stays NaN.
__device__ inline void store(bf16 *to, size_t i, float x) {
    unsigned bits = __float_as_uint(x);
    to[i].bits = x != x ? 0x7fc0 : (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Where position `at` of a bordered axis comes from: the axis has `size` pixels and begins at `before`. Outside, it is
// mirrored without repeating its edge, or (mirror = 0) -1.
__device__ inline int source(int at, int before, int size, int mirror) {
    int x = at - before;
    if (x >= 0 && x < size) return x;
    if (!mirror) return -1;
    return x < 0 ? -x : 2 * (size - 1) - x;
}

// A plane, enlarged by 1 << enlarge (nearest), with a border: out[y][x] = f(in). Where `statistics` is given, f
// normalises by the plane's (mean, 1 / deviation); then ReLU, if asked. The border is of the result: zeros stay zeros.
template <class In, class Out>
__device__ void place(const In *in, const float *statistics, Out *out, int height, int width, int out_height,
                      int out_width, int top, int left, int enlarge, int mirror, int relu) {
    size_t plane = blockIdx.y;
    EACH_THREAD {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < out_height * out_width) {
            int y = source(i / out_width, top, height << enlarge, mirror);
            int x = source(i % out_width, left, width << enlarge, mirror);
            float value = 0;
            if (y >= 0 && x >= 0) {
                value = load(in, (plane * height + (y >> enlarge)) * width + (x >> enlarge));
                if (statistics) value = (value - statistics[2 * plane]) * statistics[2 * plane + 1];
                if (relu && value < 0) value = 0;
            }
            store(out, plane * out_height * out_width + i, value);
        }
    }
}

#define PLACE(name, In, Out)                                                                                             \
    extern "C" __global__ void name(const In *in, const float *statistics, Out *out, int height, int width,              \
                                    int out_height, int out_width, int top, int left, int enlarge, int mirror,           \
                                    int relu) {                                                                          \
        place(in, statistics, out, height, width, out_height, out_width, top, left, enlarge, mirror, relu);              \
    }
PLACE(place_f32_f32, float, float)
PLACE(place_f32_bf16, float, bf16)
PLACE(place_bf16_bf16, bf16, bf16)
PLACE(place_bf16_f32, bf16, float)

// Sum of a[0..REDUCERS) into a[0], pairwise, always in the same order.
#define REDUCE(statement)                                                                                                \
    for (int half = REDUCERS / 2; half > 0; half /= 2) {                                                                 \
        EACH_THREAD {                                                                                                    \
            int t = threadIdx.x;                                                                                         \
            if (t < half) { statement; }                                                                                 \
        }                                                                                                                \
        SYNC();                                                                                                          \
    }

// (mean, 1 / sqrt(biased variance + eps)) of every plane of `size` elements; summed in double, in a fixed order.
template <class In> __device__ void statistics(const In *in, float *out, int size, float eps) {
    __shared__ double sums[REDUCERS], squares[REDUCERS];
    size_t plane = blockIdx.y;
    EACH_THREAD {
        double sum = 0, square = 0;
        for (int i = threadIdx.x; i < size; i += REDUCERS) {
            double value = load(in, plane * size + i);
            sum += value;
            square += value * value;
        }
        sums[threadIdx.x] = sum;
        squares[threadIdx.x] = square;
    }
    SYNC();
    REDUCE(sums[t] += sums[t + half]; squares[t] += squares[t + half])
    EACH_THREAD {
        if (threadIdx.x == 0) {
            double mean = sums[0] / size;
            double variance = squares[0] / size - mean * mean;
            if (variance < 0) variance = 0;
            out[2 * plane] = (float)mean;
            out[2 * plane + 1] = (float)(1 / sqrt(variance + eps));
        }
    }
}
extern "C" __global__ void statistics_f32(const float *in, float *out, int size, float eps) {
    statistics(in, out, size, eps);
}
extern "C" __global__ void statistics_bf16(const bf16 *in, float *out, int size, float eps) {
    statistics(in, out, size, eps);
}

// Mean and maximum of every plane: [n][c][size] to [n][2][c], means first. A plane with NaN has NaN for both.
extern "C" __global__ void pool_planes(const float *in, float *out, int size, int channels) {
    __shared__ double sums[REDUCERS];
    __shared__ float maxima[REDUCERS];
    size_t plane = blockIdx.y;
    EACH_THREAD {
        double sum = 0;
        float largest = -__uint_as_float(0x7f800000);
        for (int i = threadIdx.x; i < size; i += REDUCERS) {
            float value = in[plane * size + i];
            sum += value;
            if (value > largest) largest = value;
        }
        sums[threadIdx.x] = sum;
        maxima[threadIdx.x] = largest;
    }
    SYNC();
    REDUCE(sums[t] += sums[t + half]; if (maxima[t + half] > maxima[t]) maxima[t] = maxima[t + half])
    EACH_THREAD {
        if (threadIdx.x == 0) {
            float mean = (float)(sums[0] / size);
            size_t at = plane / channels * 2 * channels + plane % channels;
            out[at] = mean;
            out[at + channels] = mean != mean ? mean : maxima[0];
        }
    }
}

__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

// sigmoid(mlp(mean) + mlp(max)), mlp = excite . relu . squeeze: pooled [n][2][c] to [n][c]. One block a picture (grid y).
extern "C" __global__ void channel_gate(const float *pooled, const float *squeeze, const float *excite, float *out,
                                        int channels, int hidden) {
    __shared__ float layer[2 * HIDDEN];
    size_t picture = blockIdx.y;
    EACH_THREAD {
        for (int i = threadIdx.x; i < 2 * hidden; i += blockDim.x) {
            const float *from = pooled + (2 * picture + i / hidden) * channels;
            const float *row = squeeze + (size_t)(i % hidden) * channels;
            float sum = 0;
            for (int c = 0; c < channels; ++c) sum += row[c] * from[c];
            layer[i] = sum < 0 ? 0 : sum;
        }
    }
    SYNC();
    EACH_THREAD {
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            float mean = 0, largest = 0;
            for (int i = 0; i < hidden; ++i) {
                mean += excite[(size_t)c * hidden + i] * layer[i];
                largest += excite[(size_t)c * hidden + i] * layer[hidden + i];
            }
            out[picture * channels + c] = sigmoid(mean + largest);
        }
    }
}

// Every plane times its own factor.
extern "C" __global__ void gate_planes(const float *in, const float *gate, float *out, int size) {
    size_t plane = blockIdx.y;
    EACH_THREAD {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < size) out[plane * size + i] = in[plane * size + i] * gate[plane];
    }
}

// Mean and maximum over the channels of every pixel: [n][c][size] to [n][2][size]. Grid y counts pictures.
extern "C" __global__ void pool_channels(const float *in, float *out, int size, int channels) {
    size_t picture = blockIdx.y;
    EACH_THREAD {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < size) {
            double sum = 0;
            float largest = -__uint_as_float(0x7f800000);
            for (int c = 0; c < channels; ++c) {
                float value = in[(picture * channels + c) * size + i];
                sum += value;
                if (value > largest) largest = value;
            }
            float mean = (float)(sum / channels);
            out[2 * picture * size + i] = mean;
            out[(2 * picture + 1) * size + i] = mean != mean ? mean : largest;
        }
    }
}

// sigmoid(convolution): [n][2][height][width] with [2][side][side] (odd side, zeros around) to [n][height][width]. Grid y
// counts pictures.
extern "C" __global__ void spatial_gate(const float *in, const float *weight, float *out, int height, int width,
                                        int side) {
    size_t picture = blockIdx.y;
    EACH_THREAD {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < height * width) {
            float sum = 0;
            for (int c = 0; c < 2; ++c)
                for (int ky = 0; ky < side; ++ky) {
                    int y = i / width + ky - side / 2;
                    for (int kx = 0; kx < side; ++kx) {
                        int x = i % width + kx - side / 2;
                        if (y >= 0 && y < height && x >= 0 && x < width)
                            sum += weight[(c * side + ky) * side + kx] * in[((2 * picture + c) * height + y) * width + x];
                    }
                }
            out[picture * height * width + i] = sigmoid(sum);
        }
    }
}

// base + branch * gate, one factor a pixel: gate [n][size].
extern "C" __global__ void add_gated(const float *base, const float *branch, const float *gate, float *out, int size,
                                     int channels) {
    size_t plane = blockIdx.y;
    EACH_THREAD {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        size_t at = plane * size + i;
        if (i < size) out[at] = base[at] + branch[at] * gate[plane / channels * size + i];
    }
}

// base + branch.
extern "C" __global__ void add(const float *base, const float *branch, float *out, int size) {
    size_t plane = blockIdx.y;
    EACH_THREAD {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < size) out[plane * size + i] = base[plane * size + i] + branch[plane * size + i];
    }
}
