/* C interface of a simulated core: a Verilated model, its memory and its control bus.
 *
 * One model is one clock, one core and one memory. Nothing is shared between models, so several may
 * live in one process and each may be used from its own thread. Time only passes inside
 * eftrain_reset, eftrain_run and the two register functions.
 */
#ifndef EFTRAIN_HARNESS_H
#define EFTRAIN_HARNESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a function below changes; the loader compares it. */
#define EFTRAIN_ABI_VERSION 1

/* The memory model; docs/architecture.md measures everything against it. The clock is the core's. */
#define EFTRAIN_READ_LATENCY 64 /* cycles from an accepted read address to its first beat */
#define EFTRAIN_WRITE_LATENCY 32 /* cycles from an accepted last beat to the write response */
#define EFTRAIN_OUTSTANDING 32 /* bursts a port accepts before it has answered the oldest one */
#define EFTRAIN_REFRESH_PERIOD 780 /* cycles from one refresh to the next */
#define EFTRAIN_REFRESH_CYCLES 26 /* of these, the last ones, in which no beat moves on any port */

/* Cycles the core may take to answer one access to its registers. */
#define EFTRAIN_REGISTER_TIMEOUT 10000

enum eftrain_port {
    EFTRAIN_PORT_STATIONARY = 0,
    EFTRAIN_PORT_STREAM = 1,
    EFTRAIN_PORT_SIDE = 2,
    EFTRAIN_PORT_WRITE = 3,
    EFTRAIN_PORTS = 4
};

enum eftrain_response {
    EFTRAIN_OKAY = 0,
    EFTRAIN_EXOKAY = 1,
    EFTRAIN_SLVERR = 2,
    EFTRAIN_DECERR = 3,
    EFTRAIN_NO_RESPONSE = -1 /* the core did not answer, or broke a rule of AXI: see the error */
};

struct eftrain_model;

int eftrain_abi_version(void);

/* A core out of reset, with `memory_bytes` of zeroed memory (allocated as it is touched) from address
 * `memory_base` on; both are multiples of 16 and below 2^32. Null if there is not enough memory. */
struct eftrain_model *eftrain_create(uint64_t memory_bytes, uint64_t memory_base);
void eftrain_destroy(struct eftrain_model *model);

/* Holds the reset for `cycles` (at least 2) cycles; drops open transfers, keeps memory and error. */
void eftrain_reset(struct eftrain_model *model, uint64_t cycles);

/* One AXI4-Lite access. Returns an eftrain_response. */
int eftrain_read_register(struct eftrain_model *model, uint32_t address, uint32_t *value);
int eftrain_write_register(struct eftrain_model *model, uint32_t address, uint32_t value);

/* The first byte of memory, for the host to read and write while time stands still. */
uint8_t *eftrain_memory(struct eftrain_model *model);
uint64_t eftrain_memory_size(struct eftrain_model *model);

/* Runs until the interrupt line is high (returns 1), `max_cycles` have passed or the core breaks a
 * rule of AXI (both return 0). Returns 1 at once, without a cycle, if the line is high already. */
int eftrain_run(struct eftrain_model *model, uint64_t max_cycles);

/* Clock cycles since the model was created. */
uint64_t eftrain_cycles(struct eftrain_model *model);

/* Tests: memory answers `response` to any access of `port` that touches the 16 bytes around `address`
 * (for a write, to the burst that holds it), and leaves them as they are. EFTRAIN_OKAY ends it. */
void eftrain_set_fault(struct eftrain_model *model, int port, uint64_t address, int response);

/* Tests: every channel is held back in a random cycle with this probability, 0 (never) to 0.99. */
void eftrain_set_stalls(struct eftrain_model *model, uint64_t seed, double probability);

/* The first rule of AXI that the core broke, or the empty string. Once set, time stands still. */
const char *eftrain_protocol_error(struct eftrain_model *model);

#ifdef __cplusplus
}
#endif

#endif
