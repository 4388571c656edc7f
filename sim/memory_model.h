// The memory of the benchmarks behind the core's read and write ports: latency, bursts in flight
// and refresh as harness.h gives them.
//
// Memory is as strict as AXI lets it be: a read returns what memory held when its address was
// accepted and a write takes effect when its response is given. A core that does not wait for
// its responses reads stale data here, and fails its tests.
#ifndef EFTRAIN_MEMORY_MODEL_H
#define EFTRAIN_MEMORY_MODEL_H

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <new>

#include "environment.h"
#include "harness.h"
#include "protocol_checks.h"
#include "verilated.h"

namespace eftrain {

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

struct Fault {
    uint64_t address = 0;
    int response = EFTRAIN_OKAY;
};

// What memory answers for the beat at this address.
inline int response_at(uint64_t address, const Memory& memory, const Fault& fault) {
    if (fault.response != EFTRAIN_OKAY && address == fault.address / kBeatBytes * kBeatBytes) {
        return fault.response;
    }
    return memory.contains(address) ? EFTRAIN_OKAY : EFTRAIN_DECERR;
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

}  // namespace eftrain

#endif
