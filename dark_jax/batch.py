"""Lifting a function of one map over any leading axes."""

from collections.abc import Callable
from typing import Any

import jax


def over_leading(one: Callable[..., Any], leading: int) -> Callable[..., Any]:
    """Map ``one`` over the first ``leading`` axes of every argument.

    Nested ``vmap`` rather than a reshape: merging batch and joints would make
    sharded inputs gather.
    """
    for _ in range(leading):
        one = jax.vmap(one)
    return one
