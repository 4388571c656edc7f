// What everything around the core shares: time, the refresh, random stalls, the first broken rule.
#ifndef EFTRAIN_ENVIRONMENT_H
#define EFTRAIN_ENVIRONMENT_H

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

#include "harness.h"

namespace eftrain {

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

}  // namespace eftrain

#endif
