"""What the read arbiter and the write arbiter have in common: clients take turns."""

from amaranth.hdl import Signal

__all__ = ["check_clients", "round_robin"]


def check_clients(clients, id_bits):
    """Raise :exc:`ValueError` unless every one of ``clients`` can have an id of its own."""
    if not isinstance(clients, int) or not 2 <= clients <= 2**id_bits:
        raise ValueError(
            f"clients must be an integer from 2 to {2**id_bits}, as many as there are ids, not "
            f"{clients!r}."
        )


def round_robin(m, asking, *, taken):
    """Whose turn it is: of those that ask, the first one behind the one that was served last.

    Parameters
    ----------
    asking : Value
        A bit for each client.
    taken : Value
        The request of the chosen client, if it asks, is taken in this cycle.

    Returns
    -------
    Signal
        Index of the chosen client; any index while nobody asks.
    """
    count = len(asking)
    chosen = Signal(range(count))
    served_last = Signal(range(count), init=count - 1)
    with m.Switch(served_last):
        for last in range(count):
            with m.Case(last):
                # Of several assignments the last one that holds counts, hence the far ones first.
                for distance in reversed(range(1, count + 1)):
                    client = (last + distance) % count
                    with m.If(asking[client]):
                        m.d.comb += chosen.eq(client)
    with m.If(taken & asking.any()):
        m.d.sync += served_last.eq(chosen)
    return chosen
