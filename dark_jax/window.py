"""The neighbourhood of a peak, blurred, at any border."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax.floats import as_float
from dark_jax.peak import Peak, stored

# The pixels of the Taylor step, (dx, dy) from the peak; the peak itself comes first, and
# thrice more at the end: whole vectors of 16 are multiplied and logged faster than of 13
# (7 % of a decode on the CPU).
STENCIL = np.array(
    [
        *[(0, 0)],
        *[(-1, 0), (1, 0), (0, -1), (0, 1)],
        *[(-2, 0), (2, 0), (0, -2), (0, 2)],
        *[(-1, -1), (1, -1), (-1, 1), (1, 1)],
        *[(0, 0), (0, 0), (0, 0)],
    ],
    dtype=np.int32,
)
# How far they lie from it.
REACH = 2


def square(radius: int) -> np.ndarray:
    """The (dx, dy) of all pixels up to ``radius`` from a peak in x and y, row by row."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.int32)
    return np.stack([dx.ravel(), dy.ravel()], axis=-1)


def read(heatmap: jax.Array, peak: Peak, offsets: np.ndarray) -> jax.Array:
    """The pixels at ``offsets [n, 2]``, (dx, dy) from the peak, as ``[n]``; zero outside the map.

    Flat throughout: an index is a sum with a constant, without quotients and remainders,
    which would cost as much as the read.
    """
    chex.assert_shape(offsets, (None, 2))
    height, width = heatmap.shape
    dx, dy = offsets.T
    x, y = peak.x + dx, peak.y + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = jnp.clip(peak.y * width + peak.x + (dy * width + dx), 0, height * width - 1)
    values = stored(heatmap).reshape(-1).at[index].get(mode="promise_in_bounds")
    return jnp.where(inside, as_float(values), 0)


def read_for(heatmap: jax.Array, peak: Peak, kernel: np.ndarray) -> jax.Array:
    """The pixels that the blurred values at ``STENCIL`` depend on."""
    return read(heatmap, peak, square(REACH + len(kernel) // 2))


def blurred_stencil(around: jax.Array, kernel: np.ndarray) -> jax.Array:
    """The blurred values at ``STENCIL``, of what ``read_for`` read.

    Only these values are ever used, so only they are computed: one product with a constant
    matrix, a twentieth of the whole map's blur. Its zeros make every value NaN or infinite if any
    pixel is.
    """
    side = 2 * (REACH + len(kernel) // 2) + 1
    chex.assert_shape(around, (side * side,))
    taps = np.zeros((len(STENCIL), side, side))
    for point, (dx, dy) in enumerate(STENCIL + REACH):
        taps[point, dy : dy + len(kernel), dx : dx + len(kernel)] = np.outer(kernel, kernel)
    taps = jnp.asarray(taps.reshape(len(STENCIL), -1).T, around.dtype)
    # These values are logged: a matrix unit's TF32 or bfloat16 would leave only noise.
    return jnp.matmul(around, taps, precision=lax.Precision.HIGHEST)
