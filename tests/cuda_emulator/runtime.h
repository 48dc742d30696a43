// What kernels and the scheduler of their threads share.
#pragma once

// What was last done to a number: at which turn of a block, by which of its threads, at which line of the source.
struct Shadow {
    unsigned written, read, added;  // turns, from 1 on; 0 if never; the last by an atomic
    unsigned short writer, write_block, write_line, reader, read_block, read_line, adder, add_block, add_line;
    bool readers, read_blocks, adders;  // several threads read it in that turn, several blocks ever; several added
};

struct Memory {
    const char *name;
    void *data;
    long long size;  // in numbers
    Shadow *shadow;
};

struct Argument {
    Memory memory;
    long long word;
};

// The thread that runs.
struct Now {
    int thread, block;
    unsigned turn;
    const Memory *shared, *words;
    char *record;
};

extern Now now;
static const unsigned long long POISON = 0x7fa5a5a57fa5a5a5;  // NaN, of any size, and no NaN that arithmetic makes

extern "C" void emulator_barrier(int line);
long long emulator_nanoseconds();
[[noreturn]] void emulator_stop(const char *what, const Memory *memory, long long at, int line);
[[noreturn]] void emulator_race(const Memory *memory, long long at, bool writes, int line);

static inline bool other(unsigned turn, int thread, int block) {
    return turn && (block != now.block || (turn == now.turn && thread != now.thread));
}

static inline Shadow &checked(const Memory *memory, long long at, int line) {
    if (at < 0 || at >= memory->size) emulator_stop("is out of bounds", memory, at, line);
    return memory->shadow[at];
}

// Whether others did something to a number that its owner may not do without a barrier between.
static inline bool wrote(const Shadow &s) { return other(s.written, s.writer, s.write_block); }
static inline bool read(const Shadow &s) {
    return other(s.read, s.reader, s.read_block) || (s.read == now.turn && s.readers) || s.read_blocks;
}
static inline bool added(const Shadow &s) {
    return other(s.added, s.adder, s.add_block) || (s.added == now.turn && s.adders);
}

static inline void check_read(const Memory *memory, long long at, int line) {
    Shadow &s = checked(memory, at, line);
    if (wrote(s) || added(s)) emulator_race(memory, at, false, line);
    if (s.read && s.read_block != now.block) s.read_blocks = true;
    s.readers = s.read == now.turn && (s.readers || s.reader != now.thread);
    s.read = now.turn;
    s.reader = now.thread;
    s.read_block = now.block;
    s.read_line = line;
}

static inline void check_write(const Memory *memory, long long at, int line) {
    Shadow &s = checked(memory, at, line);
    if (read(s) || wrote(s) || added(s)) emulator_race(memory, at, true, line);
    s.written = now.turn;
    s.writer = now.thread;
    s.write_block = now.block;
    s.write_line = line;
}

static inline void check_atomic(const Memory *memory, long long at, int line) {
    Shadow &s = checked(memory, at, line);
    if (read(s) || wrote(s)) emulator_race(memory, at, true, line);
    s.adders = s.added == now.turn && (s.adders || s.adder != now.thread);
    s.added = now.turn;
    s.adder = now.thread;
    s.add_block = now.block;
    s.add_line = line;
}
