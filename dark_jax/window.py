"""The neighbourhood of a peak, blurred, at any border."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax.peak import Peak, as_float, stored

HIGHEST = lax.Precision.HIGHEST

# The pixels of the Taylor step, (dx, dy) from the peak; the peak itself comes first.
STENCIL = (
    (0, 0),
    *((-1, 0), (1, 0), (0, -1), (0, 1)),
    *((-2, 0), (2, 0), (0, -2), (0, 2)),
    *((-1, -1), (1, -1), (-1, 1), (1, 1)),
)
# How far they lie from it.
REACH = 2


def window(heatmap: jax.Array, peak: Peak, radius: int) -> jax.Array:
    """The square of ``2 radius + 1`` pixels around the peak, zeros outside the map."""
    height, width = heatmap.shape
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.int32)
    rows, columns = peak.y + offsets, peak.x + offsets
    inside = _within(rows, height)[:, None] & _within(columns, width)[None, :]
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    values = stored(heatmap).at[rows[:, None], columns[None, :]].get(mode="promise_in_bounds")
    return jnp.where(inside, as_float(values), 0)


def blurred_stencil(values: jax.Array, kernel: np.ndarray) -> jax.Array:
    """Blur a window of radius ``REACH + len(kernel) // 2`` at the 13 pixels of ``STENCIL``.

    Only these values are ever used, so only they are computed. The bands' zeros make
    every one of them NaN or infinite if any value of the window is.
    """
    size = 2 * REACH + 1
    bands = np.zeros((size, values.shape[0]))
    for row in range(size):
        bands[row, row : row + len(kernel)] = kernel
    # Columns for all rows, then the wanted (row, column) pairs as one constant matrix: a
    # sum of at most len(kernel) terms each rounds less than one over the whole window.
    pick = np.zeros((values.shape[0], size, len(STENCIL)))
    for point, (dx, dy) in enumerate(STENCIL):
        pick[:, REACH + dx, point] = bands[REACH + dy]
    # These values are logged: a matrix unit's TF32 or bfloat16 would leave only noise.
    columns = jnp.matmul(values, jnp.asarray(bands.T, values.dtype), precision=HIGHEST)
    pick = jnp.asarray(pick.reshape(-1, len(STENCIL)), values.dtype)
    return jnp.matmul(columns.reshape(-1), pick, precision=HIGHEST)


def read_stencil(values: jax.Array) -> jax.Array:
    """The values of a window at the pixels of ``STENCIL``, ``[13]``."""
    centre = values.shape[0] // 2
    return jnp.stack([values[centre + dy, centre + dx] for dx, dy in STENCIL])


def _within(index: jax.Array, size: int) -> jax.Array:
    return (index >= 0) & (index < size)
