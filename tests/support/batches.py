"""One compiled program for any number of maps."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

_T = TypeVar("_T")


def in_batches(function: Callable[[np.ndarray], _T], maps: Any, *, size: int) -> _T:
    """Apply ``function`` to ``maps [N, ...]``, ``size`` of them at a time.

    Without batches, every number of maps would need its own program, which compiles for seconds.
    The last batch is padded with copies of the last map, whose results are dropped.
    """
    maps = np.asarray(maps)
    filled = np.concatenate([maps, np.repeat(maps[-1:], -len(maps) % size, axis=0)])
    parts = [function(filled[start : start + size]) for start in range(0, len(filled), size)]
    together: _T = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(maps)], *parts)
    return together
