// What the kernels are written in, on a GPU. The compiler is told REAL, the type of numbers, and THREADS, those of a block.

typedef REAL real;
typedef long long int64;
typedef unsigned int uint32;
typedef unsigned long long uint64;

#define DEVICE __device__ __forceinline__
// Blocks of which 512 threads are resident leave each thread 128 registers.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, THREADS < 512 ? 512 / THREADS : 1)
#define SHARED(name) extern __shared__ __align__(16) real name[]
#define SHARED_INTS(name, count) __shared__ int name[count]
#define SHARED_RECORD(type, name) __shared__ type name
#define SHARED_RECORDS(type, name, count) __shared__ type name[count]

template <class T> using Pointer = T *;
template <class T> using Read = const T *__restrict__;  // an argument that the kernel does not write
template <class T> using Write = T *__restrict__;

DEVICE int thread() { return threadIdx.x; }
DEVICE int block() { return blockIdx.x; }
DEVICE void barrier() { __syncthreads(); }
DEVICE int fetch_and_add(int *numbers, int at, int value) { return atomicAdd(numbers + at, value); }
DEVICE int64 nanoseconds() {
    int64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
DEVICE int smaller(int a, int b) { return a < b ? a : b; }
