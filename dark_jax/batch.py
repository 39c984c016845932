"""Lifting a function of one map over all the other axes."""

from collections.abc import Callable
from typing import Any

import jax


def over_others(
    one: Callable[..., Any], ndim: int, axes: tuple[int, ...] = (-2, -1), *, beside: int = 0
) -> Callable[..., Any]:
    """Map ``one`` over every axis but ``axes`` of an array with ``ndim`` of them.

    ``beside`` more arguments have those other axes alone, first and in the same order, and
    so have the results. Nested ``vmap`` rather than a reshape or a transposition: merging
    batch and joints would make sharded inputs gather, and moving axes would copy the maps.
    """
    kept = {axis % ndim for axis in axes}
    others = [axis for axis in range(ndim) if axis not in kept]
    for outside, axis in reversed(list(enumerate(others))):
        one = jax.vmap(one, in_axes=(axis - outside, *[0] * beside))
    return one
