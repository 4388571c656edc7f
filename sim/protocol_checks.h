// The bus between core and memory, and the rules of AXI that the core is held to.
#ifndef EFTRAIN_PROTOCOL_CHECKS_H
#define EFTRAIN_PROTOCOL_CHECKS_H

#include <cstdint>
#include <cstring>

#include "environment.h"
#include "verilated.h"

namespace eftrain {

constexpr unsigned kBeatBytes = 16;
constexpr unsigned kBeatSize = 4;  // log2 of kBeatBytes, as arsize and awsize give it
constexpr unsigned kBurstIncrement = 1;
constexpr unsigned kPageBytes = 4096;
constexpr unsigned kMaxBurstBeats = kPageBytes / kBeatBytes;

using Beat = VlWide<4>;
static_assert(sizeof(Beat) == kBeatBytes, "a beat is copied to and from memory as it is");

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

inline void check_burst(const AddressPayload& request, Environment& environment, const char* port,
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

}  // namespace eftrain

#endif
