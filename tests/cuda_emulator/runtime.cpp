// Runs the threads of blocks as fibers, each up to its next barrier, the blocks of a grid in turn.

#include "runtime.h"

#include <chrono>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <sys/mman.h>
#include <vector>

Now now;

namespace {

constexpr size_t STACK = 256 * 1024;

struct Fiber {
    void *stack_pointer = nullptr;
    int line = 0;  // of the barrier where it waits; -1 when it has ended
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<char> shared;
    std::vector<Shadow> shared_shadow, words_shadow;
    std::vector<int> words;
    std::vector<double> record;
    Memory shared_memory, words_memory;
    bool ended = false;
};

void *scheduler;
Fiber *running;
void (*entered)(Argument *);
Argument *given;
jmp_buf stopped;
char message[600];
long long barriers;

std::vector<char *> stacks;  // kept from launch to launch

// Saves what a function must, and goes on with another stack.
extern "C" void emulator_switch(void **from, void *to);
asm(R"(
.text
.globl emulator_switch
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

void enter() {
    entered(given);
    running->line = -1;
    emulator_switch(&running->stack_pointer, scheduler);
    abort();
}

void *new_stack(size_t k) {
    while (stacks.size() <= k) {
        void *stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        mprotect(stack, 4096, PROT_NONE);  // what overflows it stops
        stacks.push_back(static_cast<char *>(stack));
    }
    void **top = reinterpret_cast<void **>(stacks[k] + STACK);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(enter);
    for (int k = 0; k < 6; ++k) *--top = nullptr;
    return top;
}

void start(Block &block, int number, int threads, long long shared_bytes, int word) {
    block.shared.resize(shared_bytes + 8);
    for (size_t k = 0; k + 8 <= block.shared.size(); k += 4) __builtin_memcpy(&block.shared[k], &POISON, 8);
    block.shared_shadow.assign(shared_bytes / word, Shadow{});
    block.words.assign(64, int(POISON));
    block.record.resize(1024);
    block.words_shadow.assign(64, Shadow{});
    block.shared_memory = {"shared memory", block.shared.data(), shared_bytes / word, block.shared_shadow.data()};
    block.words_memory = {"shared words", block.words.data(), 64, block.words_shadow.data()};
    block.fibers.resize(threads);
    for (int t = 0; t < threads; ++t) block.fibers[t].stack_pointer = new_stack(size_t(number) * threads + t);
}

// Lets each thread of a block run to its next barrier; all must come to the same.
void turn(Block &block, int number, const std::vector<int> &order) {
    now.block = number;
    now.shared = &block.shared_memory;
    now.words = &block.words_memory;
    now.record = reinterpret_cast<char *>(block.record.data());
    ++now.turn;
    for (int t : order) {
        now.thread = t;
        running = &block.fibers[t];
        emulator_switch(&scheduler, running->stack_pointer);
    }
    for (size_t t = 1; t < block.fibers.size(); ++t)
        if (block.fibers[t].line != block.fibers[0].line) {
            snprintf(message, sizeof message, "threads 0 and %zu do not come to the same barrier|%d|%d", t,
                     block.fibers[0].line, block.fibers[t].line);
            longjmp(stopped, 1);
        }
    ++barriers;
    block.ended = block.fibers[0].line == -1;
}

}  // namespace

extern "C" void emulator_barrier(int line) {
    running->line = line;
    emulator_switch(&running->stack_pointer, scheduler);
}

long long emulator_nanoseconds() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

void emulator_stop(const char *what, const Memory *memory, long long at, int line) {
    snprintf(message, sizeof message, "%s[%lld] of %lld %s by thread %d of block %d|%d|0", memory->name, at, memory->size,
             what, now.thread, now.block, line);
    longjmp(stopped, 1);
}

void emulator_race(const Memory *memory, long long at, bool writes, int line) {
    const Shadow &s = memory->shadow[at];
    const char *how = wrote(s) ? "written" : added(s) ? "added to" : "read";
    const int thread = wrote(s) ? s.writer : added(s) ? s.adder : s.reader;
    const int block = wrote(s) ? s.write_block : added(s) ? s.add_block : s.read_block;
    snprintf(message, sizeof message, "a race on %s[%lld]: %s by thread %d of block %d, %s by thread %d of block %d|%d|%d",
             memory->name, at, writes ? "written" : "read", now.thread, now.block, how, thread, block, line,
             wrote(s) ? s.write_line : added(s) ? s.add_line : s.read_line);
    longjmp(stopped, 1);
}

// Runs a kernel; returns an empty text, or what was found: a sentence and one or two lines of the source, after bars.
extern "C" const char *emulator_launch(void (*kernel)(Argument *), Argument *arguments, int n_arguments, int checked,
                                       int grid, int threads, long long shared_bytes, int word, int order,
                                       long long *turns) {
    std::vector<Block> blocks(grid);
    std::vector<int> threads_in_order(threads);
    std::mt19937 random(order);
    for (int t = 0; t < threads; ++t) threads_in_order[t] = order == 1 ? threads - 1 - t : t;
    entered = kernel;
    given = arguments;
    now = Now{};
    message[0] = 0;
    barriers = 0;
    for (int k = 0; k < n_arguments * checked; ++k)
        arguments[k].memory.shadow = static_cast<Shadow *>(calloc(arguments[k].memory.size + 1, sizeof(Shadow)));
    for (int b = 0; b < grid; ++b) start(blocks[b], b, threads, shared_bytes, word);
    if (!setjmp(stopped))
        for (int running = grid; running;) {
            running = 0;
            for (int b = 0; b < grid; ++b) {
                if (blocks[b].ended) continue;
                if (order > 1)
                    for (int t = threads - 1; t > 0; --t)
                        std::swap(threads_in_order[t], threads_in_order[random() % (t + 1)]);
                turn(blocks[b], b, threads_in_order);
                running += !blocks[b].ended;
            }
        }
    for (int k = 0; k < n_arguments * checked; ++k) free(arguments[k].memory.shadow);
    *turns = barriers;
    return message;
}
