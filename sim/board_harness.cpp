// A board's system with its SDRAM (board_bench.sv) and the host's end of the serial line, behind
// board_harness.h.

#include "board_harness.h"

#include <new>

#include "Vcore.h"
#include "Vcore___024root.h"
#include "serial_line.h"
#include "verilated.h"

using namespace eftrain;

struct eftrain_board {
  public:
    explicit eftrain_board(double cycles_per_bit)
        : sender{cycles_per_bit}, receiver{cycles_per_bit}, bench{&context, "board"} {
        bench.rx = 1;
        bench.rst = 1;
        for (int i = 0; i < 8; ++i) clock();
        bench.rst = 0;
    }
    ~eftrain_board() {
        // This thread may have looked at another board last, which is gone by now.
        Verilated::threadContextp(&context);
        bench.final();
    }

    void run(uint64_t count) {
        for (uint64_t i = 0; i < count; ++i) {
            bench.rx = sender.drive();
            clock();
            receiver.observe(bench.tx);
        }
    }

    SerialSender sender;
    SerialReceiver receiver;
    VerilatedContext context;
    Vcore bench;
    uint64_t cycles = 0;

  private:
    void clock() {
        bench.clk = 0;
        bench.eval();
        bench.clk = 1;
        bench.eval();
        ++cycles;
    }
};

// Everything but these is hidden in the shared object, so that several boards fit in one process.
#define EFTRAIN_EXPORT extern "C" __attribute__((visibility("default")))

EFTRAIN_EXPORT int eftrain_board_abi_version(void) { return EFTRAIN_BOARD_ABI_VERSION; }

EFTRAIN_EXPORT eftrain_board* eftrain_board_create(double cycles_per_bit) {
    try {
        return new eftrain_board{cycles_per_bit};
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

EFTRAIN_EXPORT void eftrain_board_destroy(eftrain_board* board) { delete board; }

EFTRAIN_EXPORT void eftrain_board_send(eftrain_board* board, const uint8_t* bytes, size_t count) {
    board->sender.push(bytes, count);
}

EFTRAIN_EXPORT size_t eftrain_board_receive(eftrain_board* board, uint8_t* bytes, size_t most) {
    return board->receiver.take(bytes, most);
}

EFTRAIN_EXPORT void eftrain_board_run(eftrain_board* board, uint64_t cycles) { board->run(cycles); }

EFTRAIN_EXPORT uint64_t eftrain_board_cycles(eftrain_board* board) { return board->cycles; }

// Words of 16 bits in the order of their addresses, on a little-endian host.
EFTRAIN_EXPORT uint8_t* eftrain_board_memory(eftrain_board* board) {
    return reinterpret_cast<uint8_t*>(
        &board->bench.rootp->board_bench__DOT__memory__DOT__mem[0]);
}

EFTRAIN_EXPORT uint32_t eftrain_board_violations(eftrain_board* board, uint32_t* first) {
    *first = board->bench.first_violation;
    return board->bench.violations;
}
