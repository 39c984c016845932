"""Reading pixels of one map at computed places, also outside it."""

import enum
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax._core.numerics import as_float

Position = tuple[jax.Array, ...]


class Padding(enum.Enum):
    """What a blur sees outside the map: zeros, or the mirrored map.

    Attributes:
        ZEROS: zeros.
        REFLECT: the map mirrored at the centres of its edge pixels, which are not repeated.
        SYMMETRIC: the map mirrored at its edges, so that the edge pixels are repeated.

    Example:
        >>> from dark_jax import rules
        >>> [rule.name for rule in rules.PUBLISHED if rule.padding is not rules.Padding.ZEROS]
        ['UDP_POSE', 'VITPOSE', 'HF_VITPOSE', 'CAFFE2']

    References:
        The modes ``reflect`` and ``symmetric`` of ``numpy.pad``, which OpenCV calls
        ``BORDER_REFLECT_101`` and ``BORDER_REFLECT``.
    """

    ZEROS = "zeros"
    REFLECT = "reflect"
    SYMMETRIC = "symmetric"


def stored(heatmap: jax.Array) -> jax.Array:
    """The map as it lies in memory, for reads at computed places.

    Without the barrier, the CPU compiler shares one float32 copy of a whole bfloat16 batch
    between such reads and the reductions, which is 8 times slower.
    """
    return lax.optimization_barrier(heatmap)


def box(radii: tuple[int, ...]) -> np.ndarray:
    """``[n, dim]``: all (dx, dy, ...) up to the radius of each axis, where x runs fastest."""
    ranges = [range(-radius, radius + 1) for radius in reversed(radii)]
    return np.array(list(itertools.product(*ranges)), np.int32)[:, ::-1]


def inside(position: Position, shape: tuple[int, ...], *, low: int, high: int) -> jax.Array:
    """True if every axis has at least ``low`` pixels before the position and ``high`` after it."""
    sides = [
        (at >= low) & (at < size - high) for at, size in zip(position, shape[::-1], strict=True)
    ]
    return functools.reduce(jnp.logical_and, sides)


def read(
    heatmap: jax.Array, position: Position, offsets: np.ndarray, padding: Padding = Padding.ZEROS
) -> jax.Array:
    """The pixels at ``offsets [n, dim]`` from ``position`` as ``[n]``.

    The map is read as a flat array. So an index is a sum with a constant, without quotients and
    remainders, which would cost as much as the read.
    """
    chex.assert_shape(offsets, (None, heatmap.ndim))
    sizes = heatmap.shape[::-1]
    strides = np.cumprod([1, *sizes[:-1]]).astype(np.int32)
    steps = [*zip(position, offsets.T, sizes, strides.tolist(), strict=True)]
    flat = stored(heatmap).reshape(-1)
    if padding is Padding.ZEROS:
        within = inside(tuple(at + step for at, step, _, _ in steps), heatmap.shape, low=0, high=0)
        start = sum(at * stride for at, _, _, stride in steps)
        index = jnp.clip(start + offsets @ strides, 0, heatmap.size - 1)
        return jnp.where(within, as_float(flat.at[index].get(mode="promise_in_bounds")), 0)
    index = sum(_mirrored(at, step, size, padding) * stride for at, step, size, stride in steps)
    return as_float(flat.at[index].get(mode="promise_in_bounds"))


def _mirrored(at: jax.Array, steps: np.ndarray, size: int, padding: Padding) -> jax.Array:
    edge = 1 if padding is Padding.SYMMETRIC else 0
    period = max(2 * (size - 1 + edge), 1)
    # Whole periods are added, because lax.rem is periodic only for numbers that are not negative.
    periods = -(-int(np.abs(steps).max(initial=0)) // period)
    ahead = lax.rem(at + (steps + periods * period), jnp.full_like(at, period))
    return jnp.minimum(ahead, period - edge - ahead)
