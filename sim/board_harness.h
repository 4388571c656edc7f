/* C interface of a simulated board: the whole system on its chip, the SDRAM beside it, and the
 * serial line to the host. Time only passes inside eftrain_board_run.
 */
#ifndef EFTRAIN_BOARD_HARNESS_H
#define EFTRAIN_BOARD_HARNESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a function below changes; the loader compares it. */
#define EFTRAIN_BOARD_ABI_VERSION 1

struct eftrain_board;

int eftrain_board_abi_version(void);

/* A board out of reset, whose serial line needs so many cycles a bit. Null if there is no memory. */
struct eftrain_board *eftrain_board_create(double cycles_per_bit);
void eftrain_board_destroy(struct eftrain_board *board);

/* Puts bytes of the host into the queue of the line. */
void eftrain_board_send(struct eftrain_board *board, const uint8_t *bytes, size_t count);

/* Takes at most `most` bytes that the board has sent; returns how many. */
size_t eftrain_board_receive(struct eftrain_board *board, uint8_t *bytes, size_t most);

/* Runs for so many cycles. */
void eftrain_board_run(struct eftrain_board *board, uint64_t cycles);

/* Clock cycles since the board was created. */
uint64_t eftrain_board_cycles(struct eftrain_board *board);

/* The SDRAM's first byte, for tests that look at memory or fill it without the serial line. */
uint8_t *eftrain_board_memory(struct eftrain_board *board);

/* Rules of the SDRAM's data sheet that were broken so far, and the code of the first one. */
uint32_t eftrain_board_violations(struct eftrain_board *board, uint32_t *first);

#ifdef __cplusplus
}
#endif

#endif
