"""The neighbourhood of a peak, blurred, at any border."""

import enum
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax._core.numerics import as_float
from dark_jax._ops.peak import stored
from dark_jax._ops.stencil import inside

Position = tuple[jax.Array, ...]
# One separable kernel an axis, (x, y, ...).
Kernels = tuple[np.ndarray, ...]


class Padding(enum.Enum):
    """What a blur sees outside the map: zeros, or the map mirrored.

    NumPy's names.

    Attributes:
        ZEROS: zeros.
        REFLECT: the map mirrored at the centres of its edge pixels, which are not repeated.
        SYMMETRIC: mirrored at its edges, so that the edge pixels come twice.

    Example:
        >>> from dark_jax import rules
        >>> [rule.name for rule in rules.PUBLISHED if rule.padding is not rules.Padding.ZEROS]
        ['VITPOSE', 'HF_VITPOSE']

    References:
        ``numpy.pad``, whose modes they are; ``BORDER_REFLECT_101`` and ``BORDER_REFLECT`` of
        OpenCV.
    """

    ZEROS = "zeros"
    REFLECT = "reflect"
    SYMMETRIC = "symmetric"


def box(radii: tuple[int, ...]) -> np.ndarray:
    """``[n, dim]``: all (dx, dy, ...) up to the radius of each axis, x running fastest."""
    ranges = [range(-radius, radius + 1) for radius in reversed(radii)]
    return np.array(list(itertools.product(*ranges)), np.int32)[:, ::-1]


def read(
    heatmap: jax.Array, position: Position, offsets: np.ndarray, padding: Padding = Padding.ZEROS
) -> jax.Array:
    """The pixels at ``offsets [n, dim]`` from ``position`` as ``[n]``.

    Flat throughout: an index is a sum with a constant, without quotients and remainders,
    which would cost as much as the read.
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
    # A remainder of what is never negative: lax.rem is then the periodic one.
    periods = -(-int(np.abs(steps).max(initial=0)) // period)
    ahead = lax.rem(at + (steps + periods * period), jnp.full_like(at, period))
    return jnp.minimum(ahead, period - edge - ahead)


def blurred(around: jax.Array, kernels: Kernels, offsets: np.ndarray) -> jax.Array:
    """The blurred values at ``offsets``, of the box of pixels ``around`` the peak.

    Only these values are ever used, so only they are computed: along x, then along the other
    axes, two products with constant matrices. Their zeros make every value NaN or infinite if
    any pixel is. As one product it would be one long sum: three times the rounding error.
    """
    reach = int(np.abs(offsets).max())
    along = [_shifted(kernel, reach) for kernel in kernels]
    rows = around.reshape(-1, len(along[0]))
    across = np.zeros((len(rows), along[0].shape[1], len(offsets)))
    for point, (column, *others) in enumerate(offsets + reach):
        taps = [matrix[:, other] for matrix, other in zip(along[1:], others, strict=True)]
        across[:, column, point] = functools.reduce(
            np.multiply.outer, reversed(taps), np.ones(())
        ).reshape(-1)

    # These values are logged: a matrix unit's TF32 or bfloat16 would leave only noise.
    def times(values: jax.Array, matrix: np.ndarray) -> jax.Array:
        constant = jnp.asarray(matrix, values.dtype)
        return jnp.matmul(values, constant, precision=lax.Precision.HIGHEST)

    return times(times(rows, along[0]).reshape(-1), across.reshape(-1, len(offsets)))


def gram(kernels: Kernels, offsets: np.ndarray) -> np.ndarray:
    """``[n, n]``, the covariance of the :func:`blurred` values if pixels have variance one."""
    reach = int(np.abs(offsets).max())
    product = np.ones((len(offsets),) * 2)
    for kernel, offset in zip(kernels, offsets.T, strict=True):
        shifted = _shifted(kernel, reach)[:, offset + reach]
        product *= shifted.T @ shifted
    return product


def _shifted(kernel: np.ndarray, reach: int) -> np.ndarray:
    """``[n, 2 reach + 1]``, the kernel at every offset up to ``reach``."""
    taps = np.zeros((len(kernel) + 2 * reach, 2 * reach + 1))
    for column in range(2 * reach + 1):
        taps[column : column + len(kernel), column] = kernel
    return taps
