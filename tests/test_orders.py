"""Sizes in an order that rounding cannot change."""

import numpy as np

from labkit.orders import by_size


def test_an_order_by_size_is_the_same_whatever_rounding_did():
    sizes = np.array([0.5, -3.0, 0.25, 3.0, 0.5, 3.0, 0.0, -0.5, 1.0])
    order = [1, 3, 5, 8, 0, 4, 7, 2, 6]
    assert by_size(sizes).tolist() == order
    for seed in range(20):
        noise = np.random.default_rng(seed).uniform(-3e-7, 3e-7, len(sizes))
        assert by_size(sizes * (1 + noise)).tolist() == order


def test_an_order_by_size_tells_apart_what_differs():
    sizes = np.random.default_rng(0).normal(size=37)
    assert by_size(sizes).tolist() == np.argsort(-abs(sizes)).tolist()
    assert by_size([1.0, 1.0 + 2e-5, 1.0 + 4e-5]).tolist() == [2, 1, 0]
    assert by_size([7.0]).tolist() == [0] and by_size([]).tolist() == []
    assert by_size([0.0, 0.0]).tolist() == [0, 1]
