"""Random numbers without a state: Philox4x32-10, a function of counter and key.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3. Written out
here because numpy's Philox has a state to wind to each counter, and the streams of its Generator
may change between versions: the same seed has to give the same pictures after any update.
"""

import numpy as np

__all__ = ["MAX_SEED", "WORDS", "philox4x32", "random_words"]

WORDS = 4
"""Words of 32 bits that come of one counter."""
ROUNDS = 10
MAX_SEED = (1 << 64) - 1

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_MASK = (1 << 32) - 1


def philox4x32(counter, key):
    """Random words of each counter.

    Parameters
    ----------
    counter : four integers or integer arrays
        Each from 0 to 2**32 - 1, of shapes that broadcast to one shape.
    key : pair of int
        Each from 0 to 2**32 - 1.

    Returns
    -------
    uint32 array of that shape, and ``WORDS`` as its last axis.
    """
    # Products of two words fill the 64 bits.
    a, b, c, d = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    first, second = (np.uint64(multiplier) for multiplier in _MULTIPLIERS)
    low, shift = np.uint64(_MASK), np.uint64(32)
    for number in range(ROUNDS):
        k0, k1 = (
            np.uint64((word + number * step) & _MASK) for word, step in zip(key, _WEYL, strict=True)
        )
        p, q = first * a, second * c
        a, b, c, d = (q >> shift) ^ b ^ k0, q & low, (p >> shift) ^ d ^ k1, p & low
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def random_words(seed, epoch, index, purpose):
    """Random words ``[n, WORDS]`` of each index, which depend on nothing but the arguments.

    Parameters
    ----------
    seed : int
        From 0 to ``MAX_SEED``; the key.
    epoch : int
    index : integer array ``[n]``
    purpose : int
        Keeps apart what is drawn for the same index: order and augmentation, for example.
    """
    return philox4x32((index, epoch, purpose, 0), (seed & _MASK, seed >> 32))
