"""Applying a function of one map along all other axes of an array."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

_T = TypeVar("_T")


def other_sizes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes in ``shape`` of the axes that are not in ``axes``, which count from 0."""
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def of_each(one: Callable[..., _T], maps: jax.Array, axes: tuple[int, ...], *parameters: Any) -> _T:
    """Apply ``one(map, *parameters)`` to every map along ``axes``, which count from 0.

    Parameters are arrays or trees of arrays. Scalars are not mapped, so they have no part in the
    sharding of the maps. The leading axes of any other array broadcast to the other axes of the
    maps, and its own axes follow.
    """
    others = other_sizes(maps.shape, axes)
    leaves, tree = jax.tree.flatten(parameters)
    mapped = [
        jnp.broadcast_to(leaf, others + leaf.shape[len(others) :]) for leaf in leaves if leaf.ndim
    ]

    def with_parameters(heatmap: jax.Array, *mine: jax.Array) -> _T:
        left = iter(mine)
        each = [next(left) if leaf.ndim else leaf for leaf in leaves]
        return one(heatmap, *jax.tree.unflatten(tree, each))

    return _over_others(with_parameters, maps.ndim, axes, beside=len(mapped))(maps, *mapped)


def _over_others(
    one: Callable[..., _T], ndim: int, axes: tuple[int, ...], *, beside: int
) -> Callable[..., _T]:
    """Map ``one`` over every axis but ``axes`` of an array with ``ndim`` axes.

    ``beside`` is the number of further arguments. These arguments and the results have the mapped
    axes first, in the same order. ``vmap`` is nested, because a reshape that merges batch and
    joints would gather sharded inputs, and a transposition would copy the maps.
    """
    others = [axis for axis in range(ndim) if axis not in axes]
    for outside, axis in reversed(list(enumerate(others))):
        one = jax.vmap(one, in_axes=(axis - outside, *[0] * beside))
    return one


def redone_unless(
    exact: jax.Array,
    found: _T,
    one: Callable[..., _T],
    maps: jax.Array,
    axes: tuple[int, ...],
    *beside: Any,
    levels: int | None = None,
) -> _T:
    """Return ``found``, recomputed with ``one(map, *beside)`` where ``exact`` is False.

    This is for expensive fallbacks that are rarely needed. ``beside`` are arrays or trees of arrays
    with the other axes of the maps first. The choice is made for the whole array, and then for one
    index at a time along each of the first ``levels`` other axes. The default is all but the last,
    or the only one. So a batch is recomputed image by image, and its intermediate maps are never
    in memory all at once.
    """
    others = maps.ndim - len(axes)
    levels = max(others - 1, min(others, 1)) if levels is None else levels

    def redo() -> _T:
        if levels:
            outer = min(axis for axis in range(maps.ndim) if axis not in axes)
            below = tuple(axis - (axis > outer) for axis in axes)
            parts = exact, found, jnp.moveaxis(maps, outer, 0), beside

            def part(args: Any) -> _T:
                exact, found, maps, beside = args
                return redone_unless(exact, found, one, maps, below, *beside, levels=levels - 1)

            return lax.map(part, parts)
        again = of_each(one, maps, axes, *beside)

        def choose(old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(exact.reshape(exact.shape + (1,) * (old.ndim - exact.ndim)), old, new)

        return jax.tree.map(choose, found, again)

    return lax.cond(jnp.all(exact), lambda: found, redo)
