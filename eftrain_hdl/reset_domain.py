"""Resets that reach thousands of registers."""

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Signal

__all__ = ["reset_domain"]


def reset_domain(m, reset, *, name):
    """A clock domain with the clock of ``sync`` and a reset of its own, which one register drives.

    ``ResetInserter`` adds its reset to that of the domain, in logic between their registers and
    everything they reach: on a large chip the longest path of all.

    Parameters
    ----------
    m : Module
    reset : Value
        The domain is reset a cycle later, and the cycle after every reset of ``sync``.
    name : str

    Returns
    -------
    DomainRenamer
        To be called with the components that live in the domain.
    """
    domain = ClockDomain(name, local=True)
    register = Signal(init=1, name=f"{name}_reset")
    m.domains += domain
    m.d.sync += register.eq(reset)
    m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(register)]
    return DomainRenamer(name)
