// What kernels and the scheduler of their threads share.
#pragma once

// What was last done to a number: at which turn of a block, by which of its threads, at which line of the source.
struct Shadow {
    unsigned written, read;  // turns, from 1 on; 0 if never
    unsigned short writer, write_block, write_line, reader, read_block, read_line;
    bool atomic, readers, read_blocks;  // the write was one of an atomic; several threads, several blocks read it
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
};

extern Now now;
static const unsigned long long POISON = 0x7fa5a5a57fa5a5a5;  // NaN, of any size, and no NaN that arithmetic makes

extern "C" void emulator_barrier(int line);
[[noreturn]] void emulator_stop(const char *what, const Memory *memory, long long at, int line);
[[noreturn]] void emulator_race(const Memory *memory, long long at, bool writes, int line);

static inline bool other(unsigned turn, int thread, int block) {
    return turn && (block != now.block || (turn == now.turn && thread != now.thread));
}

static inline Shadow &checked(const Memory *memory, long long at, int line) {
    if (at < 0 || at >= memory->size) emulator_stop("is out of bounds", memory, at, line);
    return memory->shadow[at];
}

static inline void check_read(const Memory *memory, long long at, int line) {
    Shadow &s = checked(memory, at, line);
    if (other(s.written, s.writer, s.write_block)) emulator_race(memory, at, false, line);
    if (s.read && s.read_block != now.block) s.read_blocks = true;
    s.readers = s.read == now.turn && (s.readers || s.reader != now.thread);
    s.read = now.turn;
    s.reader = now.thread;
    s.read_block = now.block;
    s.read_line = line;
}

static inline void check_write(const Memory *memory, long long at, int line) {
    Shadow &s = checked(memory, at, line);
    const bool read = other(s.read, s.reader, s.read_block) || (s.read == now.turn && s.readers) || s.read_blocks;
    if (read || other(s.written, s.writer, s.write_block)) emulator_race(memory, at, true, line);
    s.written = now.turn;
    s.writer = now.thread;
    s.write_block = now.block;
    s.write_line = line;
    s.atomic = false;
}

static inline void check_atomic(const Memory *memory, long long at, int line) {
    Shadow &s = checked(memory, at, line);
    if (s.atomic) return;
    check_read(memory, at, line);
    check_write(memory, at, line);
    s.atomic = true;
}
