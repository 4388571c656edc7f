// A core, the memory of the benchmarks and a host's control bus around it, behind harness.h.
//
// Every cycle goes: drive the core's inputs, evaluate with the clock low so that paths from input
// to output settle, look at the outputs, then evaluate the rising edge. What is driven therefore
// depends on registered state alone and no path through core and memory ever forms a loop.

#include "harness.h"

#include <algorithm>
#include <cstdint>
#include <new>

#include "Vcore.h"
#include "environment.h"
#include "memory_model.h"
#include "protocol_checks.h"
#include "verilated.h"

using namespace eftrain;

#define EFTRAIN_READ_SIGNALS(core, port)                                                          \
    ReadSignals {                                                                                 \
        (core).port##_arid, (core).port##_arlen, (core).port##_arsize, (core).port##_arburst,     \
            (core).port##_arlock, (core).port##_arcache, (core).port##_arprot,                    \
            (core).port##_arqos, (core).port##_arvalid, (core).port##_araddr,                     \
            (core).port##_arready, (core).port##_rid, (core).port##_rdata, (core).port##_rresp,   \
            (core).port##_rlast, (core).port##_rvalid, (core).port##_rready                       \
    }

#define EFTRAIN_WRITE_SIGNALS(core, port)                                                         \
    WriteSignals {                                                                                \
        (core).port##_awid, (core).port##_awlen, (core).port##_awsize, (core).port##_awburst,     \
            (core).port##_awlock, (core).port##_awcache, (core).port##_awprot,                    \
            (core).port##_awqos, (core).port##_awvalid, (core).port##_awaddr,                     \
            (core).port##_awready, (core).port##_wdata, (core).port##_wstrb, (core).port##_wlast, \
            (core).port##_wvalid, (core).port##_wready, (core).port##_bid, (core).port##_bresp,   \
            (core).port##_bvalid, (core).port##_bready                                            \
    }

struct eftrain_model {
  public:
    eftrain_model(uint64_t memory_bytes, uint64_t memory_base)
        : memory{memory_bytes, memory_base}, core{&context, "core"} {
        reset(8);
    }
    ~eftrain_model() { core.final(); }

    void reset(uint64_t cycles) {
        core.aresetn = 0;
        core.s_axi_ctrl_awvalid = core.s_axi_ctrl_wvalid = core.s_axi_ctrl_bready = 0;
        core.s_axi_ctrl_arvalid = core.s_axi_ctrl_rready = 0;
        stationary.clear();
        stream.clear();
        side.clear();
        write.clear();
        stable_response_.forget();
        stable_data_.forget();
        for (uint64_t i = 0; i < std::max<uint64_t>(cycles, 2); ++i) {
            core.aclk = 0;
            core.eval();
            core.aclk = 1;
            core.eval();
            environment.advance();
        }
        stationary.check_quiet();
        stream.check_quiet();
        side.check_quiet();
        write.check_quiet();
        core.aresetn = 1;
    }

    // First half of a cycle: afterwards the outputs are those of this cycle.
    void settle() {
        stationary.drive();
        stream.drive();
        side.drive();
        write.drive();
        core.aclk = 0;
        core.eval();
    }

    // Second half: everything that was valid and ready moves.
    void clock() {
        stationary.observe();
        stream.observe();
        side.observe();
        write.observe();
        core.aclk = 1;
        core.eval();
        environment.advance();
    }

    bool run(uint64_t max_cycles) {
        for (uint64_t i = 0; !core.irq && i < max_cycles && !environment.broken(); ++i) {
            settle();
            clock();
        }
        return core.irq && !environment.broken();
    }

    int write_register(uint32_t address, uint32_t value) {
        bool address_taken = false;
        bool data_taken = false;
        for (unsigned i = 0; i < EFTRAIN_REGISTER_TIMEOUT && !environment.broken(); ++i) {
            // With stalls the address and the data come in different cycles, in either order.
            if (!address_taken && !core.s_axi_ctrl_awvalid && !environment.stalled()) {
                core.s_axi_ctrl_awaddr = address;
                core.s_axi_ctrl_awvalid = 1;
            }
            if (!data_taken && !core.s_axi_ctrl_wvalid && !environment.stalled()) {
                core.s_axi_ctrl_wdata = value;
                core.s_axi_ctrl_wstrb = 0xF;
                core.s_axi_ctrl_wvalid = 1;
            }
            core.s_axi_ctrl_bready = !environment.stalled();
            settle();
            const bool takes_address = core.s_axi_ctrl_awvalid && core.s_axi_ctrl_awready;
            const bool takes_data = core.s_axi_ctrl_wvalid && core.s_axi_ctrl_wready;
            const bool answers = core.s_axi_ctrl_bvalid;
            const bool answered = answers && core.s_axi_ctrl_bready;
            const int response = core.s_axi_ctrl_bresp;
            if (answers && !(address_taken && data_taken)) {
                environment.report(kControl, "bvalid is high before address and data were taken");
            }
            const uint32_t payload = core.s_axi_ctrl_bresp;
            stable_response_.observe(answers, core.s_axi_ctrl_bready, payload, environment,
                                     kControl, "b");
            clock();
            address_taken |= takes_address;
            data_taken |= takes_data;
            if (takes_address) core.s_axi_ctrl_awvalid = 0;
            if (takes_data) core.s_axi_ctrl_wvalid = 0;
            if (answered && !environment.broken()) {
                core.s_axi_ctrl_bready = 0;
                return response;
            }
        }
        environment.report(kControl, "no answer to a write of register 0x%03x in %d cycles",
                           address, EFTRAIN_REGISTER_TIMEOUT);
        return EFTRAIN_NO_RESPONSE;
    }

    int read_register(uint32_t address, uint32_t& value) {
        bool address_taken = false;
        for (unsigned i = 0; i < EFTRAIN_REGISTER_TIMEOUT && !environment.broken(); ++i) {
            if (!address_taken && !core.s_axi_ctrl_arvalid && !environment.stalled()) {
                core.s_axi_ctrl_araddr = address;
                core.s_axi_ctrl_arvalid = 1;
            }
            core.s_axi_ctrl_rready = !environment.stalled();
            settle();
            const bool takes_address = core.s_axi_ctrl_arvalid && core.s_axi_ctrl_arready;
            const bool answers = core.s_axi_ctrl_rvalid;
            const bool answered = answers && core.s_axi_ctrl_rready;
            const int response = core.s_axi_ctrl_rresp;
            if (answers && !address_taken) {
                environment.report(kControl, "rvalid is high before an address was taken");
            }
            const uint64_t payload =
                uint64_t{core.s_axi_ctrl_rdata} << 2 | core.s_axi_ctrl_rresp;
            stable_data_.observe(answers, core.s_axi_ctrl_rready, payload, environment, kControl,
                                 "r");
            if (answered) value = core.s_axi_ctrl_rdata;
            clock();
            address_taken |= takes_address;
            if (takes_address) core.s_axi_ctrl_arvalid = 0;
            if (answered && !environment.broken()) {
                core.s_axi_ctrl_rready = 0;
                return response;
            }
        }
        environment.report(kControl, "no answer to a read of register 0x%03x in %d cycles",
                           address, EFTRAIN_REGISTER_TIMEOUT);
        return EFTRAIN_NO_RESPONSE;
    }

    Fault* fault(int port) {
        switch (port) {
            case EFTRAIN_PORT_STATIONARY: return &stationary.fault;
            case EFTRAIN_PORT_STREAM: return &stream.fault;
            case EFTRAIN_PORT_SIDE: return &side.fault;
            case EFTRAIN_PORT_WRITE: return &write.fault;
            default: return nullptr;
        }
    }

    Memory memory;
    Environment environment;
    VerilatedContext context;
    Vcore core;
    ReadPort stationary{"m_axi_stationary", EFTRAIN_READ_SIGNALS(core, m_axi_stationary), memory,
                        environment};
    ReadPort stream{"m_axi_stream", EFTRAIN_READ_SIGNALS(core, m_axi_stream), memory, environment};
    ReadPort side{"m_axi_side", EFTRAIN_READ_SIGNALS(core, m_axi_side), memory, environment};
    WritePort write{"m_axi_write", EFTRAIN_WRITE_SIGNALS(core, m_axi_write), memory, environment};

  private:
    static constexpr const char* kControl = "s_axi_ctrl";

    StableWhileWaiting<uint32_t> stable_response_;
    StableWhileWaiting<uint64_t> stable_data_;
};

// Everything but these is hidden in the shared object, so that several cores fit in one process.
#define EFTRAIN_EXPORT extern "C" __attribute__((visibility("default")))

EFTRAIN_EXPORT int eftrain_abi_version(void) { return EFTRAIN_ABI_VERSION; }

EFTRAIN_EXPORT eftrain_model* eftrain_create(uint64_t memory_bytes, uint64_t memory_base) {
    try {
        return new eftrain_model{memory_bytes, memory_base};
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

EFTRAIN_EXPORT void eftrain_destroy(eftrain_model* model) { delete model; }

EFTRAIN_EXPORT void eftrain_reset(eftrain_model* model, uint64_t cycles) { model->reset(cycles); }

EFTRAIN_EXPORT int eftrain_read_register(eftrain_model* model, uint32_t address, uint32_t* value) {
    return model->read_register(address, *value);
}

EFTRAIN_EXPORT int eftrain_write_register(eftrain_model* model, uint32_t address, uint32_t value) {
    return model->write_register(address, value);
}

EFTRAIN_EXPORT uint8_t* eftrain_memory(eftrain_model* model) { return model->memory.data(); }

EFTRAIN_EXPORT uint64_t eftrain_memory_size(eftrain_model* model) { return model->memory.bytes(); }

EFTRAIN_EXPORT int eftrain_run(eftrain_model* model, uint64_t max_cycles) {
    return model->run(max_cycles);
}

EFTRAIN_EXPORT uint64_t eftrain_cycles(eftrain_model* model) { return model->environment.cycle(); }

EFTRAIN_EXPORT void eftrain_set_fault(eftrain_model* model, int port, uint64_t address,
                                      int response) {
    if (Fault* const fault = model->fault(port)) *fault = Fault{address, response};
}

EFTRAIN_EXPORT void eftrain_set_stalls(eftrain_model* model, uint64_t seed, double probability) {
    model->environment.set_stalls(seed, probability);
}

EFTRAIN_EXPORT const char* eftrain_protocol_error(eftrain_model* model) {
    return model->environment.error();
}
