"""Lifting a function of one map over all the other axes."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

_T = TypeVar("_T")


def other_sizes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The sides of ``shape`` that are not among ``axes``, which count from 0."""
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def of_each(one: Callable[..., _T], maps: jax.Array, axes: tuple[int, ...], *parameters: Any) -> _T:
    """``one(map, *parameters)`` of every map along ``axes``, which count from 0.

    Parameters are arrays, or trees of them; single ones, or ones that broadcast to the maps'
    other axes, their own axes after these. Single ones are not mapped: they have no part in the
    maps' sharding.
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
    """``one`` mapped over every axis but ``axes`` of an array with ``ndim`` of them.

    ``beside`` more arguments have those other axes first, in the same order, and so have
    the results. Nested ``vmap`` rather than a reshape or a transposition: merging
    batch and joints would make sharded inputs gather, and moving axes would copy the maps.
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
    """Return ``found``, recomputed with ``one`` of maps and ``beside`` where ``exact`` is False.

    ``beside`` are arrays, or trees of them, with the maps' other axes first. For expensive
    fallbacks that are rarely needed. Chosen ``levels`` axes deep, the last but one where nothing
    is said: the batch, then one image at a time, and what is below as one. So the intermediate
    maps of a whole batch are never in memory.
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
