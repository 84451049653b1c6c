"""What float32's rounding must not decide: an order that is the same on every processor, and changes that are none.

Links of one chain carry one number, which another processor rounds otherwise: sorted exactly, they would stand in
another order there.
"""

from collections.abc import Sequence

import numpy as np

TIED = 1e-5  # of the largest: sizes nearer than this are told apart by float32's rounding alone
ROUNDED = 1e-5  # nats that float32 may round off two logits: a change below has no sign of its own


def by_size(values: Sequence[float]) -> np.ndarray:
    """Places of numbers from the largest in size to the smallest; what rounding alone tells apart keeps its order.

    Args:
        values: [entry], no NaN.

    Returns:
        [entry] int64. Neighbours in the order count as equal up to 1e-5 of the largest size.
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    order = np.argsort(-sizes, kind="stable")
    apart = -np.diff(sizes[order]) > TIED * sizes.max(initial=0.0)
    return order[np.lexsort((order, np.concatenate([[0], apart.cumsum()])[: len(order)]))]
