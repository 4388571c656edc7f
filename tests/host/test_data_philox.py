"""Philox against the known answers of its authors and against plain integers."""

import numpy as np
import pytest

from eftrain.data.philox import philox4x32, random_words

# From kat_vectors of Random123: philox 4x32, 10 rounds.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert philox4x32(words(counter), words(key)).tolist() == words(answer)


def in_integers(counter, key):
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = q >> 32 ^ b ^ k, q % 2**32, p >> 32 ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def test_many_counters_at_once():
    index = np.array([0, 1, 77, 2**32 - 1])
    seed = 0x0123456789ABCDEF
    found = random_words(seed, 5, index, 1)
    assert found.dtype == np.uint32
    expected = [in_integers([i, 5, 1, 0], [0x89ABCDEF, 0x01234567]) for i in index.tolist()]
    assert found.tolist() == expected


def test_every_argument_matters():
    index = np.arange(3)
    first = random_words(0, 0, index, 0)
    for other in (
        random_words(1, 0, index, 0), random_words(1 << 32, 0, index, 0),
        random_words(0, 1, index, 0), random_words(0, 0, index, 1),
        random_words(0, 0, index + 3, 0),
    ):  # fmt: skip
        assert not (other == first).any()
