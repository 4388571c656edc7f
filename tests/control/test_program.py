"""Program flow: fetch, loops, pointers, run-ahead, and errors of the program itself."""

import random

import pytest
from control_bench import END, PROGRAM_ADDRESS, WORK, ControlBench, good, loop

from eftrain_hdl import isa
from eftrain_hdl.control import Program
from eftrain_hdl.isa import ErrorCode, Opcode


def expected(program):
    """What a program executes, decoded, with resolved addresses."""
    index, stack, pointers, work = 0, [], [0] * isa.POINTERS, []
    while True:
        opcode, flags, values = isa.decode(program[index])
        if opcode == Opcode.END:
            return work
        if opcode == Opcode.LOOP:
            stack.append([index + 1, values["count"]])
        elif opcode == Opcode.NEXT:
            for i in range(1, isa.POINTERS):
                pointers[i] += values[f"increment_{i}"]
            stack[-1][1] -= 1
            if stack[-1][1]:
                index = stack[-1][0]
                continue
            stack.pop()
        else:
            for port in ("stream", "stationary", "output", "side", "bias"):
                pointer = pointers[values.get(f"{port}_pointer", 0)]
                bases = [f"{port}_base"]
                if port == "bias" and "bias_momentum_base" in values:
                    bases.append("bias_momentum_base")
                for base in bases:
                    if base in values:
                        values[base] = (values[base] + pointer) & 0xFFFF_FFFF
            work.append((opcode, flags, values))
        index += 1


def run(program, **options):
    """Run a program to its END or error; return ``(bench, error, unit, descriptor)``."""
    bench = ControlBench(program, **options)
    result = []

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host)
        status = await host.wait()
        error = await host.read("ERROR")
        assert ("error" in status) == (error & 0xFF != 0)
        assert ("done" in status) != ("error" in status)
        result.extend((error & 0xFF, error >> 8, await host.read("ERROR_DESCRIPTOR")))
        if "done" in status:
            await host.read("CYCLES_LOW")
            assert await host.read("CURRENT_DESCRIPTOR") == program.index(END)

    bench.run(testbench)
    return bench, *result


def check_good(program, **options):
    bench, error, _, _ = run(program, **options)
    assert error == ErrorCode.NONE
    assert [isa.decode(blob) for blob in bench.descriptors] == expected(program)
    assert bench.resets == 0
    return bench


def test_empty_program():
    assert check_good((END,)).executed == []


def test_straight_line():
    program = [good(op) for op in (Opcode.CONV_FP, Opcode.PASS, Opcode.LOSS, Opcode.CONV_WU,
                                   Opcode.CONV_BP)]
    bench = check_good((*program, END))
    assert bench.fetched == [PROGRAM_ADDRESS + isa.DESCRIPTOR_BYTES * i for i in range(6)]


@pytest.mark.parametrize("work_cycles", [0, 1, 100])
def test_nested_loops_with_pointers(work_cycles):
    work = [
        good(Opcode.CONV_WU, stream_pointer=1, stationary_pointer=2, output_pointer=3,
             side_pointer=1, bias_pointer=2),
        good(Opcode.LOSS, stream_pointer=2, output_pointer=1, side_pointer=3, bias_pointer=3),
        good(Opcode.PASS, stream_pointer=3),
    ]
    program = (
        *loop(2, work[0],
              *loop(1, *loop(2, *loop(3, work[1], increment_2=0x100), increment_3=-0x30)),
              work[2], increment_1=-0x2000, increment_2=-0x600),
        work[0],
        END,
    )
    # Jumps find the right descriptor whether or not the work before them is still executing.
    check_good(program, work_cycles=work_cycles)


def test_random_programs():
    rng = random.Random(2)

    def block(depth):
        parts = []
        for _ in range(rng.randint(1, 2)):
            if depth and rng.random() < 0.6:
                parts += loop(rng.randint(1, 2), *block(depth - 1), **{
                    f"increment_{i}": 16 * rng.randint(-2**20, 2**20) for i in (1, 2, 3)})
            else:
                parts.append(good(rng.choice((Opcode.CONV_FP, Opcode.CONV_BP, Opcode.LOSS)), **{
                    f"{port}_pointer": rng.randrange(4)
                    for port in ("stream", "stationary", "output", "side", "bias")}))
        return parts

    for _ in range(4):
        check_good((*block(isa.LOOP_DEPTH), END), work_cycles=rng.choice((0, 5, 60)),
                   fetch_latency=rng.choice((1, 3, 40)))


def test_two_in_flight():
    """The second starts as soon as it has been read, the third when the first is done."""
    latency = 64
    fetch = latency + Program.fetch_cycles
    bench = check_good((*[WORK] * 5, END), fetch_latency=latency, work_cycles=400)
    starts = [cycle for cycle, _ in bench.executed]
    assert starts[1] - starts[0] == fetch
    for done, start in zip(bench.done_cycles, starts[2:], strict=False):
        assert start - done == 2


@pytest.mark.parametrize("alone", [Opcode.LOSS, Opcode.NORM])
def test_loss_and_norm_are_alone(alone):
    program = (WORK, WORK, good(alone), good(alone), WORK, WORK, END)
    bench = check_good(program, work_cycles=300)
    starts = [cycle for cycle, _ in bench.executed]
    for index in (2, 3, 4):
        assert starts[index] - bench.done_cycles[index - 1] == 2


def test_latency():
    latency = 64
    fetch = latency + Program.fetch_cycles

    # Fetches that nothing hides.
    for control in (0, 1, 3):
        loops = [good(Opcode.LOOP, count=1)] * control
        ends = [good(Opcode.NEXT)] * control
        program = (WORK, *loops, WORK, *ends, END)
        bench = check_good(program, fetch_latency=latency, work_cycles=0)
        (first, _), (second, _) = bench.executed
        assert second - first == fetch + control * (fetch - 1)
        # The doorbell passes a register on its way to the program's `begin`.
        assert first - bench.begin_cycle == fetch + 3


ERRORS = {
    "unknown opcode": ((WORK, b"\x77" + WORK[1:], END), ErrorCode.UNKNOWN_OPCODE, 1),
    "count of zero": ((good(Opcode.LOOP, count=0), END), ErrorCode.ZERO_DIMENSION, 0),
    "NEXT alone": ((WORK, WORK, good(Opcode.NEXT), END), ErrorCode.LOOP_NESTING, 2),
    "NEXT after its loop": ((*loop(1), good(Opcode.NEXT), END), ErrorCode.LOOP_NESTING, 2),
    "five loops": (loop(1, *loop(1, *loop(1, *loop(1, *loop(1))))), ErrorCode.LOOP_NESTING, 4),
    "no END": ((WORK, WORK), ErrorCode.PROGRAM_OVERRUN, 2),
    "no descriptor": ((), ErrorCode.PROGRAM_OVERRUN, 0),
    "misaligned by pointer": (
        (*loop(2, good(Opcode.CONV_FP, output_pointer=2), increment_2=8), END),
        ErrorCode.MISALIGNED_ADDRESS, 1),
    "flags of END": ((b"\x01\x01" + END[2:],), ErrorCode.ILLEGAL_FLAGS, 0),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    program, code, index = ERRORS[name]
    bench, error, unit, descriptor = run(program)
    assert (ErrorCode(error), unit, descriptor) == (code, isa.ErrorUnit.CONTROL, index)
    assert bench.resets > 0
    # Everything before the bad descriptor was executed, and ended.
    assert len(bench.executed) == len(bench.done_cycles)
    if name != "misaligned by pointer":
        assert len(bench.executed) == program[:index].count(WORK)


@pytest.mark.parametrize("address, code, index", [
    (PROGRAM_ADDRESS + 8, ErrorCode.MISALIGNED_ADDRESS, 0),
    # The second descriptor would lie past the end of the address space.
    (0xFFFF_FF00, ErrorCode.ADDRESS_OUT_OF_WINDOW, 1),
])
def test_bad_program_address(address, code, index):
    bench = ControlBench((WORK, END))
    bench.program_address = address

    async def testbench(ctx, host):
        await host.wait()
        await bench.doorbell(host)
        assert "error" in await host.wait()
        assert await host.read("ERROR") == code
        assert await host.read("ERROR_DESCRIPTOR") == index

    bench.run(testbench)
    assert bench.fetched == [address] * index
