// A core, the memory of the benchmarks and a host's control bus around it, behind harness.h.
//
// Every cycle goes: drive the core's inputs, evaluate with the clock low so that paths from input to
// output settle, look at the outputs, then evaluate the rising edge. Whatever is driven therefore
// depends on registered state alone and no path through core and memory ever forms a loop.
//
// Memory is as strict as AXI lets it be: a read returns what memory held when its address was
// accepted and a write takes effect when its response is given. A core that does not wait for
// its responses reads stale data here, and fails its tests.

#include "harness.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "Vcore.h"
#include "verilated.h"

namespace {

constexpr unsigned kBeatBytes = 16;
constexpr unsigned kBeatSize = 4;  // log2 of kBeatBytes, as arsize and awsize give it
constexpr unsigned kBurstIncrement = 1;
constexpr unsigned kPageBytes = 4096;
constexpr unsigned kMaxBurstBeats = kPageBytes / kBeatBytes;

using Beat = VlWide<4>;
static_assert(sizeof(Beat) == kBeatBytes, "a beat is copied to and from memory as it is");

// Zeroed memory that takes up room only once it is touched.
class Memory {
  public:
    Memory(uint64_t bytes, uint64_t base) : base_{base}, bytes_{bytes} {
        void* const room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED) throw std::bad_alloc{};
        data_ = static_cast<uint8_t*>(room);
    }
    ~Memory() { munmap(data_, bytes_); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    bool contains(uint64_t address) const {
        return address >= base_ && address - base_ < bytes_;
    }
    uint8_t* at(uint64_t address) { return data_ + (address - base_); }
    uint8_t* data() { return data_; }
    uint64_t bytes() const { return bytes_; }

  private:
    uint64_t base_;
    uint64_t bytes_;
    uint8_t* data_;
};

// What all ports share: time, the refresh, random stalls, and the first broken rule.
class Environment {
  public:
    uint64_t cycle() const { return cycle_; }
    bool refreshing() const {
        return phase_ >= EFTRAIN_REFRESH_PERIOD - EFTRAIN_REFRESH_CYCLES;
    }
    void advance() {
        ++cycle_;
        if (++phase_ == EFTRAIN_REFRESH_PERIOD) phase_ = 0;
    }

    void set_stalls(uint64_t seed, double probability) {
        // An xorshift generator must not start at zero.
        random_ = seed * 0x9E3779B97F4A7C15u | 1;
        const double bounded = std::min(std::max(probability, 0.0), 0.99);
        stall_threshold_ = static_cast<uint64_t>(bounded * 4294967296.0);
    }
    bool stalled() {
        if (!stall_threshold_) return false;
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        random_ ^= random_ << 17;
        return (random_ >> 32) < stall_threshold_;
    }

    bool broken() const { return broken_; }
    const char* error() const { return error_.c_str(); }
    __attribute__((format(printf, 3, 4))) void report(const char* port, const char* format, ...) {
        if (broken_) return;
        broken_ = true;
        char text[256];
        va_list values;
        va_start(values, format);
        vsnprintf(text, sizeof text, format, values);
        va_end(values);
        error_ = "cycle " + std::to_string(cycle_) + ", " + port + ": " + text;
    }

  private:
    uint64_t cycle_ = 0;
    unsigned phase_ = 0;
    uint64_t random_ = 1;
    uint64_t stall_threshold_ = 0;
    bool broken_ = false;
    std::string error_;
};

// A rule of every AXI channel: once valid is high, it and its payload stay until ready is high.
template <typename Payload>
class StableWhileWaiting {
  public:
    void observe(bool valid, bool ready, const Payload& payload, Environment& environment,
                 const char* port, const char* channel) {
        if (waiting_) {
            if (!valid) {
                environment.report(port, "%svalid fell before %sready was high", channel, channel);
            } else if (std::memcmp(&payload, &payload_, sizeof payload)) {
                environment.report(port, "the payload of channel %s changed while %svalid waited",
                                   channel, channel);
            }
        }
        waiting_ = valid && !ready;
        if (waiting_) std::memcpy(&payload_, &payload, sizeof payload);
    }
    void forget() { waiting_ = false; }

  private:
    bool waiting_ = false;
    Payload payload_{};
};

// The outputs of an address channel; no padding, so that it can be compared as bytes.
struct AddressPayload {
    uint32_t address;
    uint8_t length;
    uint8_t size;
    uint8_t burst;
    uint8_t id;
    uint8_t lock;
    uint8_t cache;
    uint8_t prot;
    uint8_t qos;
};

struct WritePayload {
    Beat data;
    uint16_t strobes;
    uint16_t last;
};

struct Fault {
    uint64_t address = 0;
    int response = EFTRAIN_OKAY;
};

// What memory answers for the beat at this address.
int response_at(uint64_t address, const Memory& memory, const Fault& fault) {
    if (fault.response != EFTRAIN_OKAY && address == fault.address / kBeatBytes * kBeatBytes) {
        return fault.response;
    }
    return memory.contains(address) ? EFTRAIN_OKAY : EFTRAIN_DECERR;
}

void check_burst(const AddressPayload& request, Environment& environment, const char* port,
                 const char* kind) {
    const unsigned beats = request.length + 1u;
    if (request.burst != kBurstIncrement) {
        environment.report(port, "%s burst of type %u, not INCR", kind, request.burst);
    } else if (request.size != kBeatSize) {
        environment.report(port, "%s burst of %u-byte beats on a %u-byte bus", kind,
                           1u << request.size, kBeatBytes);
    } else if (request.address % kBeatBytes) {
        environment.report(port, "%s burst at misaligned address 0x%08x", kind, request.address);
    } else if (request.address % kPageBytes + beats * kBeatBytes > kPageBytes) {
        environment.report(port, "%s burst of %u beats at 0x%08x crosses a 4 KiB boundary", kind,
                           beats, request.address);
    } else if (request.lock) {
        environment.report(port, "exclusive %s burst", kind);
    }
}

// A fixed ring of bursts in flight.
template <typename Burst>
class BurstQueue {
  public:
    bool empty() const { return count_ == 0; }
    bool full() const { return count_ == EFTRAIN_OUTSTANDING; }
    unsigned count() const { return count_; }
    Burst& head() { return bursts_[head_]; }
    Burst& at(unsigned index) { return bursts_[(head_ + index) % EFTRAIN_OUTSTANDING]; }
    Burst& push() { return at(count_++); }
    void pop() {
        head_ = (head_ + 1) % EFTRAIN_OUTSTANDING;
        --count_;
    }
    void clear() { head_ = count_ = 0; }

  private:
    unsigned head_ = 0;
    unsigned count_ = 0;
    std::array<Burst, EFTRAIN_OUTSTANDING> bursts_;
};

struct ReadSignals {
    const CData &arid, &arlen, &arsize, &arburst, &arlock, &arcache, &arprot, &arqos, &arvalid;
    const IData& araddr;
    CData& arready;
    CData& rid;
    Beat& rdata;
    CData &rresp, &rlast, &rvalid;
    const CData& rready;
};

class ReadPort {
  public:
    ReadPort(const char* name, ReadSignals signals, Memory& memory, Environment& environment)
        : fault{}, name_{name}, s_{signals}, memory_{memory}, environment_{environment} {}

    Fault fault;

    // Sets the inputs of the coming cycle.
    void drive() {
        s_.arready = !bursts_.full() && !environment_.stalled();
        // A beat that is on the bus stays there through a refresh: it has left the memory.
        if (presented_) return;
        s_.rvalid = 0;
        if (bursts_.empty()) return;
        const Burst& burst = bursts_.head();
        if (environment_.cycle() < burst.first_cycle || environment_.refreshing() ||
            environment_.stalled()) {
            return;
        }
        presented_ = true;
        const uint64_t address = burst.address + beat_ * kBeatBytes;
        std::memcpy(&s_.rdata, burst.data + beat_ * kBeatBytes, kBeatBytes);
        s_.rid = burst.id;
        s_.rresp = response_at(address, memory_, fault);
        s_.rlast = beat_ == burst.last_beat;
        s_.rvalid = 1;
        if (VL_UNLIKELY(s_.rresp != EFTRAIN_OKAY)) std::memset(&s_.rdata, 0xFF, kBeatBytes);
    }

    // Looks at the settled outputs of this cycle.
    void observe() {
        if (presented_ && s_.rready) {
            presented_ = false;
            if (s_.rlast) {
                bursts_.pop();
                beat_ = 0;
            } else {
                ++beat_;
            }
        }
        const bool requested = s_.arvalid;
        if (!requested && !was_requested_) return;
        was_requested_ = requested;
        const AddressPayload request{s_.araddr, s_.arlen,  s_.arsize, s_.arburst, s_.arid,
                                     s_.arlock, s_.arcache, s_.arprot, s_.arqos};
        stable_.observe(requested, s_.arready, request, environment_, name_, "ar");
        if (requested && s_.arready) accept(request);
    }

    // Forgets all bursts, for the begin of a reset.
    void clear() {
        bursts_.clear();
        stable_.forget();
        beat_ = 0;
        presented_ = was_requested_ = false;
        s_.arready = s_.rvalid = 0;
    }
    // For the end of a reset, when nothing may be left on the bus.
    void check_quiet() {
        if (s_.arvalid) environment_.report(name_, "arvalid is high during reset");
    }

  private:
    struct Burst {
        uint64_t first_cycle;
        uint32_t address;
        uint8_t last_beat;
        uint8_t id;
        alignas(16) uint8_t data[kMaxBurstBeats * kBeatBytes];
    };

    void accept(const AddressPayload& request) {
        check_burst(request, environment_, name_, "read");
        if (environment_.broken()) return;
        Burst& burst = bursts_.push();
        burst.first_cycle = environment_.cycle() + EFTRAIN_READ_LATENCY;
        burst.address = request.address;
        burst.last_beat = request.length;
        burst.id = request.id;
        // Memory is a multiple of a beat, so a burst may only leave it between two beats.
        for (unsigned beat = 0; beat <= request.length; ++beat) {
            const uint64_t address = uint64_t{request.address} + beat * kBeatBytes;
            if (!memory_.contains(address)) continue;
            std::memcpy(burst.data + beat * kBeatBytes, memory_.at(address), kBeatBytes);
        }
    }

    const char* name_;
    ReadSignals s_;
    Memory& memory_;
    Environment& environment_;
    BurstQueue<Burst> bursts_;
    StableWhileWaiting<AddressPayload> stable_;
    unsigned beat_ = 0;
    bool presented_ = false;
    bool was_requested_ = false;
};

struct WriteSignals {
    const CData &awid, &awlen, &awsize, &awburst, &awlock, &awcache, &awprot, &awqos, &awvalid;
    const IData& awaddr;
    CData& awready;
    const Beat& wdata;
    const SData& wstrb;
    const CData &wlast, &wvalid;
    CData& wready;
    CData &bid, &bresp, &bvalid;
    const CData& bready;
};

class WritePort {
  public:
    WritePort(const char* name, WriteSignals signals, Memory& memory, Environment& environment)
        : fault{}, name_{name}, s_{signals}, memory_{memory}, environment_{environment} {}

    Fault fault;

    void drive() {
        s_.awready = !bursts_.full() && !environment_.stalled();
        // Data waits for its address, which AXI lets a subordinate do.
        s_.wready = filled_ < bursts_.count() && !environment_.refreshing() &&
                    !environment_.stalled();
        if (presented_) return;
        s_.bvalid = 0;
        if (!filled_) return;
        const Burst& burst = bursts_.head();
        if (environment_.cycle() < burst.response_cycle || environment_.stalled()) return;
        presented_ = true;
        s_.bid = burst.id;
        s_.bresp = commit(burst);
        s_.bvalid = 1;
    }

    void observe() {
        if (presented_ && s_.bready) {
            presented_ = false;
            bursts_.pop();
            --filled_;
        }
        const bool offered = s_.wvalid;
        if (offered || was_offered_) {
            was_offered_ = offered;
            WritePayload payload;
            std::memcpy(&payload.data, &s_.wdata, kBeatBytes);
            payload.strobes = s_.wstrb;
            payload.last = s_.wlast;
            stable_data_.observe(offered, s_.wready, payload, environment_, name_, "w");
            if (offered && s_.wready) fill(payload);
        }
        const bool requested = s_.awvalid;
        if (requested || was_requested_) {
            was_requested_ = requested;
            const AddressPayload request{s_.awaddr, s_.awlen,  s_.awsize, s_.awburst, s_.awid,
                                         s_.awlock, s_.awcache, s_.awprot, s_.awqos};
            stable_address_.observe(requested, s_.awready, request, environment_, name_, "aw");
            if (requested && s_.awready) accept(request);
        }
    }

    void clear() {
        bursts_.clear();
        stable_address_.forget();
        stable_data_.forget();
        filled_ = beat_ = 0;
        presented_ = was_requested_ = was_offered_ = false;
        s_.awready = s_.wready = s_.bvalid = 0;
    }
    void check_quiet() {
        if (s_.awvalid) environment_.report(name_, "awvalid is high during reset");
        if (s_.wvalid) environment_.report(name_, "wvalid is high during reset");
    }

  private:
    struct Burst {
        uint64_t response_cycle;
        uint32_t address;
        uint8_t last_beat;
        uint8_t id;
        uint16_t strobes[kMaxBurstBeats];
        alignas(16) uint8_t data[kMaxBurstBeats * kBeatBytes];
    };

    void accept(const AddressPayload& request) {
        check_burst(request, environment_, name_, "write");
        if (environment_.broken()) return;
        Burst& burst = bursts_.push();
        burst.address = request.address;
        burst.last_beat = request.length;
        burst.id = request.id;
    }

    void fill(const WritePayload& payload) {
        Burst& burst = bursts_.at(filled_);
        if ((payload.last != 0) != (beat_ == burst.last_beat)) {
            environment_.report(name_, "wlast is %u on beat %u of a burst of %u at 0x%08x",
                                payload.last, beat_ + 1, burst.last_beat + 1u, burst.address);
            return;
        }
        burst.strobes[beat_] = payload.strobes;
        std::memcpy(burst.data + beat_ * kBeatBytes, &payload.data, kBeatBytes);
        if (payload.last) {
            burst.response_cycle = environment_.cycle() + EFTRAIN_WRITE_LATENCY;
            beat_ = 0;
            ++filled_;
        } else {
            ++beat_;
        }
    }

    // Puts a burst into memory and returns the worst response of its beats.
    int commit(const Burst& burst) {
        int worst = EFTRAIN_OKAY;
        for (unsigned beat = 0; beat <= burst.last_beat; ++beat) {
            const uint64_t address = uint64_t{burst.address} + beat * kBeatBytes;
            const uint8_t* const data = burst.data + beat * kBeatBytes;
            const unsigned strobes = burst.strobes[beat];
            const int response = response_at(address, memory_, fault);
            worst = std::max(worst, response);
            if (response != EFTRAIN_OKAY) continue;
            if (VL_LIKELY(strobes == 0xFFFF)) {
                std::memcpy(memory_.at(address), data, kBeatBytes);
                continue;
            }
            for (unsigned byte = 0; byte < kBeatBytes; ++byte) {
                if (strobes >> byte & 1) memory_.at(address)[byte] = data[byte];
            }
        }
        return worst;
    }

    const char* name_;
    WriteSignals s_;
    Memory& memory_;
    Environment& environment_;
    BurstQueue<Burst> bursts_;
    StableWhileWaiting<AddressPayload> stable_address_;
    StableWhileWaiting<WritePayload> stable_data_;
    unsigned filled_ = 0;  // bursts from the head on whose data is complete
    unsigned beat_ = 0;
    bool presented_ = false;
    bool was_requested_ = false;
    bool was_offered_ = false;
};

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

}  // namespace

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
