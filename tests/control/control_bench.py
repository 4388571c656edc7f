"""Test bench of the control side: a host, a memory that holds the program, a pretended datapath."""

from amaranth.sim import Simulator

from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.control import Control

ADDRESSES = {name: register.address for name, register in isa.REGISTER.items()}
PROGRAM_ADDRESS = 0x1_0000
OKAY, SLVERR = 0, 2
BEATS = isa.DESCRIPTOR_BYTES // 16
ALONE = {isa.Opcode.LOSS, isa.Opcode.NORM}

CONV = {
    "kernel_rows": 3, "kernel_cols": 3, "stride_rows": 1, "stride_cols": 1,
    "pad_rows": 1, "pad_cols": 1,
    "big_rows": 8, "big_cols": 8, "small_rows": 8, "small_cols": 8,
    "images": 2, "tile_images": 1, "tile_rows": 4, "tile_cols": 8,
    "out_blocks": 2, "tile_out_blocks": 1, "in_blocks": 3,
    **{f"{port}_{part}_stride": 64
       for port in ("stream", "stationary", "output", "side", "second", "auxiliary")
       for part in ("image", "block", "row")},
    "stream_base": 0x2000, "stationary_base": 0x3000, "output_base": 0x4000, "side_base": 0x5000,
    "bias_base": 0x6000, "bias_momentum_base": 0x7000, "bias_block_stride": 16,
    "stream_coefficients_base": 0x8000, "stationary_coefficients_base": 0x9000,
    "companion_base": 0xA000, "second_base": 0xB000, "auxiliary_base": 0xC000,
    "norm_base": 0xD000, "statistics_base": 0xE000,
}
NORM = {"out_blocks": 3, "statistics_base": 0x2000, "parameters_base": 0x3000,
        "coefficients_base": 0x4000, "pair_base": 0x5000}
PASS = {**CONV, "kernel_rows": 1, "kernel_cols": 1, "pad_rows": 0, "pad_cols": 0, "in_blocks": 1}
LOSS = {"images": 2, "classes": 10, "stream_base": 0x2000, "output_base": 0x4000,
        "side_base": 0x5000, "bias_base": 0x6000}
GOOD = {
    isa.Opcode.CONV_FP: CONV, isa.Opcode.CONV_BP: CONV, isa.Opcode.CONV_WU: CONV,
    isa.Opcode.PASS: PASS, isa.Opcode.PASS_BP: {**PASS, "tile_cols": 5}, isa.Opcode.LOSS: LOSS,
    isa.Opcode.NORM: NORM, isa.Opcode.LOOP: {"count": 1},
    isa.Opcode.NEXT: {}, isa.Opcode.END: {},
}


def good(opcode, flags=(), **changes):
    """A legal descriptor, with changes."""
    return isa.encode(opcode, flags, **{**GOOD[opcode], **changes})


END = good(isa.Opcode.END)
WORK = good(isa.Opcode.CONV_FP)


def loop(count, *body, **increments):
    """LOOP, body and NEXT."""
    return (good(isa.Opcode.LOOP, count=count), *body, isa.encode(isa.Opcode.NEXT, **increments))


class Host:
    """A bus master on an AXI4-Lite port, inside one testbench."""

    def __init__(self, ctx, bus):
        self._ctx = ctx
        self._bus = bus

    async def write_raw(self, address, word, strobes=0xF, address_delay=0, word_delay=0):
        """Write and return the response."""
        ctx, bus = self._ctx, self._bus
        ctx.set(bus.awaddr, address)
        ctx.set(bus.wdata, word)
        ctx.set(bus.wstrb, strobes)
        sent_address = sent_word = False
        cycle = 0
        while not (sent_address and sent_word):
            ctx.set(bus.awvalid, not sent_address and cycle >= address_delay)
            ctx.set(bus.wvalid, not sent_word and cycle >= word_delay)
            _, _, address_taken, word_taken = await ctx.tick().sample(
                bus.awvalid & bus.awready, bus.wvalid & bus.wready
            )
            sent_address |= bool(address_taken)
            sent_word |= bool(word_taken)
            cycle += 1
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)
        ctx.set(bus.bready, 1)
        (response,) = await ctx.tick().sample(bus.bresp).until(bus.bvalid)
        ctx.set(bus.bready, 0)
        return response

    async def read_raw(self, address):
        """Read and return ``(word, response)``."""
        ctx, bus = self._ctx, self._bus
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        ctx.set(bus.rready, 1)
        word, response = await ctx.tick().sample(bus.rdata, bus.rresp).until(bus.rvalid)
        ctx.set(bus.rready, 0)
        return word, response

    async def write(self, name, word):
        assert await self.write_raw(ADDRESSES[name], word) == OKAY

    async def read(self, name):
        word, response = await self.read_raw(ADDRESSES[name])
        assert response == OKAY
        return word

    async def status(self):
        """Names of the bits that are set."""
        word = await self.read("STATUS")
        return {f.name for f in isa.REGISTER["STATUS"].fields if word >> f.lsb & f.mask}

    async def wait(self, limit=4000):
        """Wait until the device is not busy; return its status."""
        for _ in range(limit):
            status = await self.status()
            if "busy" not in status:
                return status
        raise AssertionError("The device stays busy.")


class ControlBench:
    """A :class:`Control` with surroundings that behave as the real ones do.

    Parameters
    ----------
    program : sequence of bytes
        Descriptors, placed at PROGRAM_ADDRESS.
    fetch_latency : int
        Cycles from a run to its first beat, at least 1.
    work_cycles : int or None
        How long each descriptor executes once it is the oldest; None: forever.
    clear_cycles : int
        How long the datapath is not ready after a reset.
    """

    def __init__(self, program=(), *, fetch_latency=16, work_cycles=10, clear_cycles=30):
        self.dut = Control(CoreConfig())
        self.program = b"".join(program)
        self.length = len(program)
        self.program_address = PROGRAM_ADDRESS
        self.fetch_latency = fetch_latency
        self.work_cycles = work_cycles
        self.clear_cycles = clear_cycles
        self.masters_busy = False
        self.finish = False
        """Set to end the oldest that executes."""
        self.cycle = 0
        self.executed = []
        """``(cycle of start, descriptor)`` of all that was started."""
        self.done_cycles = []
        self.begin_cycle = None
        """When the doorbell acted, one cycle after its write was taken."""
        self.fetched = []
        """Addresses of all fetches."""
        self.resets = 0
        """Cycles of datapath_reset."""
        self.halted = 0

    def run(self, testbench):
        """Simulate ``testbench(ctx, host)`` to its end."""
        async def wrapped(ctx):
            await testbench(ctx, Host(ctx, self.dut.ctrl))

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(self._surroundings, background=True)
        simulator.add_testbench(wrapped)
        simulator.run()

    async def doorbell(self, host, length=None):
        await host.write("PROGRAM_ADDRESS", self.program_address)
        await host.write("PROGRAM_LENGTH", self.length if length is None else length)
        await host.write("CONTROL", 1)

    async def _surroundings(self, ctx):
        dut = self.dut
        run, beats = dut.fetch_run, dut.fetch_beats
        pending, slots, left, clearing = [], [], None, self.clear_cycles
        while True:
            ctx.set(run.ready, not ctx.get(dut.halt))
            ctx.set(beats.valid, bool(pending) and pending[0][0] <= self.cycle
                    and not ctx.get(dut.halt))
            if pending:
                ctx.set(beats.p.data, pending[0][1])
            if self.finish:
                left, self.finish = 0, False
            ctx.set(dut.done, left == 0)
            if slots:
                assert ctx.get(dut.oldest) == slots[0]
            if left == 0:
                self.done_cycles.append(self.cycle)
            ctx.set(dut.datapath_ready, clearing == 0)
            ctx.set(dut.masters_idle, not self.masters_busy)
            sampled = await ctx.tick().sample(
                (dut.ctrl.awaddr == ADDRESSES["CONTROL"]) & dut.ctrl.wvalid & dut.ctrl.wready,
                run.valid & run.ready, beats.valid & beats.ready, run.p.address, dut.start,
                dut.start_slot, dut.datapath_reset, dut.halt,
            )
            _, _, doorbell, asked, taken, address, start, slot, reset, halt = sampled
            self.cycle += 1
            self.halted += halt
            if doorbell:
                self.begin_cycle = self.cycle
            if taken:
                pending.pop(0)
            if asked:
                self.fetched.append(address)
                assert ctx.get(run.p.beats) == BEATS
                offset = address - self.program_address
                for i in range(BEATS):
                    data = self.program[offset + 16 * i:offset + 16 * i + 16]
                    pending.append((self.cycle - 1 + self.fetch_latency + i,
                                    int.from_bytes(data, "little")))
            if left == 0:
                slots.pop(0)
                left = self.work_cycles if slots else None
            elif left is not None:
                left -= 1
            if start:
                assert slot not in slots, "Started in a slot that was taken."
                word = ctx.get(dut.descriptors[slot].as_value())
                blob = word.to_bytes(isa.DESCRIPTOR_BYTES, "little")
                if slots:
                    assert not {blob[0], self.executed[-1][1][0]} & ALONE, "Not alone."
                else:
                    left = self.work_cycles
                slots.append(slot)
                self.executed.append((self.cycle - 1, blob))
            clearing = max(0, clearing - 1)
            if reset:
                assert not self.masters_busy
                pending, slots, left, clearing = [], [], None, self.clear_cycles
                self.resets += 1

    @property
    def descriptors(self):
        """What was executed."""
        return [blob for _, blob in self.executed]
