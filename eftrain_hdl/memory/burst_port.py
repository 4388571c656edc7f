"""What the burst reader and the burst writer have in common: runs in, errors out."""

from amaranth.hdl import Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import BusError, RunLayout, check_bus_parameters
from .burst_splitter import BurstSplitter, check_burst_parameters

__all__ = ["BurstPort"]


class BurstPort(wiring.Component):
    """Base of :class:`BurstReader` and :class:`BurstWriter`, which describe parameters and members.

    Parameters
    ----------
    data_side : :class:`dict`
        Members of the beats and of the bus.

    Raises
    ------
    :exc:`ValueError`
        If a parameter is out of range.
    """

    def __init__(
        self,
        data_side,
        *,
        address_bits,
        data_bits,
        id_bits,
        axi_id,
        max_burst_beats,
        max_outstanding,
    ):
        check_bus_parameters(address_bits=address_bits, data_bits=data_bits, id_bits=id_bits)
        check_burst_parameters(
            axi_id=axi_id,
            id_bits=id_bits,
            max_burst_beats=max_burst_beats,
            max_outstanding=max_outstanding,
        )
        self._address_bits = address_bits
        self._data_bits = data_bits
        self._axi_id = axi_id
        self._max_burst_beats = max_burst_beats
        self._max_outstanding = max_outstanding
        super().__init__(
            {
                "run": In(stream.Signature(RunLayout(address_bits))),
                **data_side,
                "window_base": In(address_bits),
                "window_limit": In(address_bits),
                "halt": In(1),
                "idle": Out(1),
                "error": Out(2),
            }
        )

    def split_runs(self, m):
        """Add a :class:`BurstSplitter` behind ``run``.

        Returns
        -------
        :class:`BurstSplitter`, :class:`Signal`
            The second, a register, is high while neither runs nor bursts may move: after an error,
            and from the cycle after ``halt`` rose to the one after it fell.
        """
        stopped = Signal()
        m.d.sync += stopped.eq(self.halt | (self.error != BusError.NONE))

        m.submodules.splitter = splitter = BurstSplitter(
            address_bits=self._address_bits,
            data_bits=self._data_bits,
            max_burst_beats=self._max_burst_beats,
        )
        m.d.comb += [
            splitter.window_base.eq(self.window_base),
            splitter.window_limit.eq(self.window_limit),
            splitter.run.p.eq(self.run.p),
            splitter.run.valid.eq(self.run.valid & ~stopped),
            self.run.ready.eq(splitter.run.ready & ~stopped),
        ]
        return splitter, stopped

    def hold_first_error(self, m, stopped, *, refused, failed):
        """Set ``error`` once: to what the splitter ``refused``, or when an answer ``failed``.

        ``stopped`` rises with it.
        """
        with m.If(refused != BusError.NONE):
            m.d.sync += stopped.eq(1)
            with m.If(self.error == BusError.NONE):
                m.d.sync += self.error.eq(refused)
        with m.Elif(failed):
            m.d.sync += stopped.eq(1)
            with m.If(self.error == BusError.NONE):
                m.d.sync += self.error.eq(BusError.BUS_RESPONSE)
