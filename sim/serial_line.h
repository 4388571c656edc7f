// The two wires of a serial line, bit by bit: what the host's adapter does at the other end.
//
// Eight data bits, least significant first, no parity, one stop bit. A bit may take a fractional
// number of cycles; bits begin at the nearest whole one.
#ifndef EFTRAIN_SERIAL_LINE_H
#define EFTRAIN_SERIAL_LINE_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>

namespace eftrain {

constexpr unsigned kDataBits = 8;

// Bytes of the host become levels of the design's receive pin.
class SerialSender {
  public:
    explicit SerialSender(double cycles_per_bit) : cycles_per_bit_{cycles_per_bit} {}

    void push(const uint8_t* bytes, size_t count) { bytes_.insert(bytes_.end(), bytes, bytes + count); }
    bool idle() const { return bytes_.empty(); }

    // Level of the wire in the coming cycle.
    bool drive() {
        if (bytes_.empty()) return true;
        const auto bit = static_cast<unsigned>(cycle_ / cycles_per_bit_);
        ++cycle_;
        // A stop bit and what rounding takes from it: the next byte begins on a whole cycle.
        if (cycle_ >= std::ceil((kDataBits + 2) * cycles_per_bit_)) {
            cycle_ = 0;
            bytes_.pop_front();
            return true;
        }
        if (bit == 0) return false;
        return bit > kDataBits || (bytes_.front() >> (bit - 1) & 1);
    }

  private:
    double cycles_per_bit_;
    std::deque<uint8_t> bytes_;
    uint64_t cycle_ = 0;
};

// Levels of the design's transmit pin become bytes for the host.
class SerialReceiver {
  public:
    explicit SerialReceiver(double cycles_per_bit) : cycles_per_bit_{cycles_per_bit} {}

    void observe(bool level) {
        if (!receiving_) {
            if (level) return;
            receiving_ = true;
            cycle_ = sampled_ = byte_ = 0;
        }
        // Each bit is looked at in its middle.
        if (cycle_++ < (sampled_ + 0.5) * cycles_per_bit_) return;
        const unsigned bit = sampled_++;
        if (bit == 0) {
            receiving_ = !level;
        } else if (bit <= kDataBits) {
            byte_ |= level << (bit - 1);
        } else {
            // An adapter drops a byte without a stop bit.
            if (level) bytes_.push_back(static_cast<uint8_t>(byte_));
            receiving_ = false;
        }
    }

    size_t take(uint8_t* bytes, size_t most) {
        size_t count = 0;
        for (; count < most && !bytes_.empty(); ++count) {
            bytes[count] = bytes_.front();
            bytes_.pop_front();
        }
        return count;
    }

  private:
    double cycles_per_bit_;
    std::deque<uint8_t> bytes_;
    bool receiving_ = false;
    uint64_t cycle_ = 0;
    unsigned sampled_ = 0;
    unsigned byte_ = 0;
};

}  // namespace eftrain

#endif
