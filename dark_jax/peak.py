"""The peak of a map, by reductions that run at the speed of memory."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from dark_jax import checks
from dark_jax.batch import over_leading
from dark_jax.floats import as_float


class Peak(NamedTuple):
    """Integer position and value of a map's maximum; all scalars."""

    x: jax.Array
    y: jax.Array
    score: jax.Array

    @property
    def coords(self) -> jax.Array:
        """``[2]`` (x, y), of the score's dtype."""
        return jnp.stack([self.x, self.y]).astype(self.score.dtype)


def stored(heatmap: jax.Array) -> jax.Array:
    """The map as it lies in memory, for reads at computed places.

    Without the barrier the CPU compiler shares one float32 copy of a whole bfloat16 batch
    between such reads and the reductions: 8 times slower.
    """
    return lax.optimization_barrier(heatmap)


def find_peak(heatmap: jax.Array) -> Peak:
    """NumPy's argmax of one map ``[H, W]``: the first NaN, else the first maximum.

    Row maxima first, then one row: ``argmax`` over the whole map is scalar code on the CPU,
    6 to 10 times slower. ``max`` may drop NaN there, so NaN is looked for separately.
    """
    chex.assert_rank(heatmap, 2)
    # The input's own dtype: integers compare exactly, and a converted copy would be
    # written to memory.
    values = lax.stop_gradient(heatmap)
    row_max = jnp.max(values, axis=1)
    row_probe = _nan_where_a_row_has_one(values)
    # Without the barrier XLA fuses what follows into the reductions and reads twice.
    row_max, row_probe = lax.optimization_barrier((row_max, row_probe))
    score, has_nan = jnp.max(row_max), jnp.isnan(jnp.sum(row_probe))

    y = _first(jnp.where(has_nan, jnp.isnan(row_probe), row_max == score))
    # Reads by index arrays: a vmapped slice at a computed place fails on explicit meshes.
    row = stored(heatmap).at[y[None]].get(mode="promise_in_bounds")[0]
    x = _first(jnp.where(has_nan, jnp.isnan(as_float(row)), row == score))
    # Read, not computed: the gradient goes to this pixel, and -0.0 keeps its sign.
    return Peak(x, y, as_float(row.at[x[None]].get(mode="promise_in_bounds")[0]))


def _nan_where_a_row_has_one(values: jax.Array) -> jax.Array:
    """``[H]``; squares, because a plain sum is also NaN of two infinities."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return jnp.zeros(values.shape[0], jnp.float32)
    return jnp.einsum("hw,hw->h", values, values, preferred_element_type=jnp.float32)


def reference_coords(peak: Peak) -> jax.Array:
    """``[2]`` (x, y), or (0, 0) where the score is not above zero (NaN is not)."""
    return jnp.where(peak.score > 0, peak.coords, 0)


def maximum(heatmap: jax.Array) -> jax.Array:
    """NumPy's maximum of one map: NaN if it holds one. Its gradient goes to the first peak."""
    return find_peak(heatmap).score


def _first(hits: jax.Array) -> jax.Array:
    """Index of the first True; the last index if there is none."""
    size = hits.shape[0]
    # In float32, exact to 2^24: the CPU reduces integers several times slower.
    index = jnp.where(hits, jnp.arange(size, dtype=jnp.float32), size - 1)
    return jnp.min(index).astype(jnp.int32)


@jax.jit
def _get_max_preds(heatmaps: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(heatmap: jax.Array) -> tuple[jax.Array, jax.Array]:
        peak = find_peak(heatmap)
        return reference_coords(peak), peak.score[None]

    return over_leading(one, 2)(heatmaps)


def get_max_preds(heatmaps: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Integer peaks of a batch of heatmaps.

    Args:
        heatmaps: ``[B, J, H, W]`` real.

    Returns:
        ``coords [B, J, 2]``, ``(x, y)`` in heatmap pixels, the first maximum in
        row-major order, NaN counting as a maximum; (0, 0) where the maximum is not
        above zero. ``maxvals [B, J, 1]``, the maximum of each map. Both float32
        (float64 for float64 input).

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers.
        ValueError: ``heatmaps`` is not ``[B, J, H, W]`` with H and W at least 1.

    Example:
        >>> import numpy as np
        >>> import dark_jax
        >>> heatmaps = np.zeros((1, 1, 5, 7))
        >>> heatmaps[0, 0, 2, 4] = 0.9
        >>> coords, maxvals = dark_jax.get_max_preds(heatmaps)
        >>> coords[0, 0].tolist(), round(float(maxvals[0, 0, 0]), 3)
        ([4.0, 2.0], 0.9)

    References:
        ``get_max_preds`` of DarkPose (Zhang et al., CVPR 2020, arXiv:1910.06278).
    """
    return _get_max_preds(checks.maps("heatmaps", heatmaps, layout="[B, J, H, W]"))
