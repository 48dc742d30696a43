// What the kernels are written in, where threads are fibers: in the place of search/engines/cuda/library/prelude.cuh.
// With CHECKED, every access to shared and global memory goes through `check`.

#include "runtime.h"

typedef REAL real;
typedef long long int64;
typedef unsigned int uint32;
typedef unsigned long long uint64;

#define DEVICE static inline
#define KERNEL static void

// Not from a header: to read one takes as long as to compile a kernel.
#define OF_A_NUMBER(name) \
    DEVICE float name(float v) { return __builtin_##name##f(v); } \
    DEVICE double name(double v) { return __builtin_##name(v); }
OF_A_NUMBER(cos) OF_A_NUMBER(exp) OF_A_NUMBER(fabs) OF_A_NUMBER(floor) OF_A_NUMBER(log)
OF_A_NUMBER(sin) OF_A_NUMBER(sqrt) OF_A_NUMBER(tanh)
DEVICE real cospi(real v) { return real(__builtin_cos(3.14159265358979323846 * v)); }
DEVICE real sinpi(real v) { return real(__builtin_sin(3.14159265358979323846 * v)); }
DEVICE int smaller(int a, int b) { return a < b ? a : b; }
DEVICE int64 nanoseconds() { return emulator_nanoseconds(); }
DEVICE int thread() { return now.thread; }
DEVICE int block() { return now.block; }
DEVICE void barrier(int line = __builtin_LINE()) { emulator_barrier(line); }

// Records of the block's are not checked: whoever reads them has read a number that was written with them.
#define SHARED_RECORD(type, name) type &name = *reinterpret_cast<type *>(now.record)
#define SHARED_RECORDS(type, name, count) type *const name = reinterpret_cast<type *>(now.record + 1024)

#ifdef CHECKED

template <class T> struct Plain {
    typedef T type;
};
template <class T> struct Plain<const T> {
    typedef T type;
};

template <class T> DEVICE bool poisoned(const T &value) {
    if constexpr (sizeof(T) > 8) return false;
    else {
        T pattern;
        __builtin_memcpy(&pattern, &POISON, sizeof(T));
        return __builtin_memcmp(&value, &pattern, sizeof(T)) == 0;
    }
}

// A number in memory, as an expression names it.
template <class T> struct Number {
    typedef typename Plain<T>::type Value;
    const Memory *memory;
    int64 at;
    int line;

    Value load() const {
        check_read(memory, at, line);
        const Value value = static_cast<Value *>(memory->data)[at];
        if (poisoned(value)) emulator_stop("is read before it is written", memory, at, line);
        return value;
    }
    void store(Value value) const {
        check_write(memory, at, line);
        static_cast<Value *>(memory->data)[at] = value;
    }
    operator Value() const { return load(); }
    void operator=(Value value) const { store(value); }
    void operator=(const Number &other) const { store(other.load()); }
    void operator+=(Value value) const { store(load() + value); }
    void operator-=(Value value) const { store(load() - value); }
};

// An index, and the line of the source where it stands.
struct Index {
    int64 at;
    int line;
    Index(int64 at, int line = __builtin_LINE()) : at(at), line(line) {}
};

template <class T> struct Pointer {
    const Memory *memory;
    int64 at;

    Pointer(const Memory *memory, int64 at = 0) : memory(memory), at(at) {}
    operator Pointer<const T>() const { return {memory, at}; }
    Pointer operator+(int64 more) const { return {memory, at + more}; }
    Number<T> operator[](Index index) const { return {memory, at + index.at, index.line}; }
};

DEVICE int fetch_and_add(Pointer<int> numbers, int64 index, int value, int line = __builtin_LINE()) {
    const int64 at = numbers.at + index;
    check_atomic(numbers.memory, at, line);
    int &number = static_cast<int *>(numbers.memory->data)[at], old = number;
    number += value;
    return old;
}

// What stands for a number in a call of a function that has an overload for each type of numbers.
#define OF_NUMBERS(function) \
    DEVICE real function(const Number<real> &number) { return function(number.load()); } \
    DEVICE real function(const Number<const real> &number) { return function(number.load()); }
OF_NUMBERS(exp) OF_NUMBERS(log)

template <class T> DEVICE Pointer<T> argument(Argument &given) { return {&given.memory}; }
#define SHARED(name) const Pointer<real> name(now.shared)
#define SHARED_INTS(name, count) const Pointer<int> name(now.words)

#else

template <class T> using Pointer = T *;
DEVICE int fetch_and_add(int *numbers, int at, int value) {
    const int old = numbers[at];
    numbers[at] += value;
    return old;
}
template <class T> DEVICE T *argument(Argument &given) { return static_cast<T *>(given.memory.data); }
#define SHARED(name) real *const name = static_cast<real *>(now.shared->data)
#define SHARED_INTS(name, count) int *const name = static_cast<int *>(now.words->data)

#endif

template <class T> using Read = Pointer<const T>;
template <class T> using Write = Pointer<T>;
