"""Random operands, and the comparison of results with those of PyTorch."""

import numpy as np


def random(*shape, seed=0):
    """fp32 normal values; the seed makes tensors of one case different."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def integers(*shape, seed=0, limit=3):
    """fp32 integers from ``-limit`` to ``limit``: sums of their products are exact."""
    rng = np.random.default_rng([seed, *shape])
    return rng.integers(-limit, limit + 1, shape).astype(np.float32)


def assert_close(found, expected, tolerance=1e-5, what=""):
    """Largest error at most ``tolerance`` of the largest expected value."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape, what
    scale = max(float(np.abs(expected).max()), 1e-30)
    error = float(np.abs(found - expected).max()) / scale
    assert error <= tolerance, f"{what}: error {error:.2e} of the scale, allowed {tolerance:.0e}"
