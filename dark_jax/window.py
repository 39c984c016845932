"""The neighbourhood of a peak, blurred, at any border."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax.peak import Peak, as_float, stored

# The pixels of the Taylor step, (dx, dy) from the peak; the peak itself comes first, and
# thrice more at the end: whole vectors of 16 are multiplied and logged faster than of 13
# (7 % of a decode on the CPU).
STENCIL = (
    (0, 0),
    *((-1, 0), (1, 0), (0, -1), (0, 1)),
    *((-2, 0), (2, 0), (0, -2), (0, 2)),
    *((-1, -1), (1, -1), (-1, 1), (1, 1)),
    *((0, 0), (0, 0), (0, 0)),
)
# How far they lie from it.
REACH = 2


def window(heatmap: jax.Array, peak: Peak, radius: int) -> jax.Array:
    """The square of ``2 radius + 1`` pixels around the peak, zeros outside the map."""
    height, width = heatmap.shape
    offsets = np.arange(-radius, radius + 1, dtype=np.int32)
    inside_rows = _within(peak.y + offsets, height)[:, None]
    inside_columns = _within(peak.x + offsets, width)[None, :]
    # One flat index a pixel costs half of a clipped row and column each.
    index = (peak.y * width + peak.x) + (offsets[:, None] * width + offsets[None, :])
    index = jnp.clip(index, 0, height * width - 1)
    values = stored(heatmap).reshape(-1).at[index].get(mode="promise_in_bounds")
    return jnp.where(inside_rows & inside_columns, as_float(values), 0)


def blurred_stencil(values: jax.Array, kernel: np.ndarray) -> jax.Array:
    """Blur a window of radius ``REACH + len(kernel) // 2`` at the pixels of ``STENCIL``.

    Only these values are ever used, so only they are computed: one product with a constant
    matrix, 1/50 of the whole map's blur. Its zeros make every value NaN or infinite if any
    of the window is.
    """
    size = values.shape[0]
    taps = np.zeros((size, size, len(STENCIL)))
    for point, (dx, dy) in enumerate(STENCIL):
        top, left = REACH + dy, REACH + dx
        spot = taps[top : top + len(kernel), left : left + len(kernel), point]
        spot += np.outer(kernel, kernel)
    taps = jnp.asarray(taps.reshape(-1, len(STENCIL)), values.dtype)
    # These values are logged: a matrix unit's TF32 or bfloat16 would leave only noise.
    return jnp.matmul(values.reshape(-1), taps, precision=lax.Precision.HIGHEST)


def read_stencil(values: jax.Array) -> jax.Array:
    """The values of a window at the pixels of ``STENCIL``."""
    centre = values.shape[0] // 2
    return jnp.stack([values[centre + dy, centre + dx] for dx, dy in STENCIL])


def _within(index: jax.Array, size: int) -> jax.Array:
    return (index >= 0) & (index < size)
