"""The peak of a map, by reductions that run at the speed of memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.batching import of_each
from dark_jax._core.numerics import as_float


class Peak(NamedTuple):
    """Where a map has its maximum, integers (x, y, ...), and the value there; all scalars."""

    position: tuple[jax.Array, ...]
    score: jax.Array

    @property
    def coords(self) -> jax.Array:
        """``[dim]`` (x, y, ...), of the score's dtype."""
        return jnp.stack(self.position).astype(self.score.dtype)


def stored(heatmap: jax.Array) -> jax.Array:
    """The map as it lies in memory, for reads at computed places.

    Without the barrier the CPU compiler shares one float32 copy of a whole bfloat16 batch
    between such reads and the reductions: 8 times slower.
    """
    return lax.optimization_barrier(heatmap)


def find_peak(heatmap: jax.Array) -> Peak:
    """NumPy's argmax of one map of any dimension: the first NaN, else the first maximum.

    Row maxima first, then one row: ``argmax`` over the whole map is scalar code on the CPU,
    6 to 10 times slower. ``max`` may drop NaN there, so NaN is looked for separately.
    """
    # Without the barrier XLA fuses what follows into the reductions and reads twice.
    largest, probe = lax.optimization_barrier(_rows(heatmap))
    score, has_nan = jnp.max(largest), jnp.isnan(jnp.sum(probe))
    rest, position = heatmap, []
    while True:
        first = _first(jnp.where(has_nan, jnp.isnan(probe), largest == score))
        position.insert(0, first)
        # Reads by index arrays: a vmapped slice at a computed place fails on explicit meshes.
        rest = stored(rest).at[first[None]].get(mode="promise_in_bounds")[0]
        if rest.ndim == 0:
            # Read, not computed: the gradient goes to this pixel, and -0.0 keeps its sign.
            return Peak(tuple(position), as_float(rest))
        largest, probe = _rows(rest)


def _rows(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Along the first axis: the maximum of the rest, and NaN where the rest holds one."""
    # The input's own dtype: integers compare exactly, and a converted copy would be
    # written to memory.
    values = lax.stop_gradient(values)
    rest = tuple(range(1, values.ndim))
    largest = jnp.max(values, axis=rest)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return largest, jnp.zeros(len(values), jnp.float32)
    # Squares, because a plain sum is also NaN of two infinities.
    if not rest:
        return largest, jnp.square(as_float(values))
    all_axes = list(range(values.ndim))
    probe = jnp.einsum(
        values, all_axes, values, all_axes, all_axes[:1], preferred_element_type=jnp.float32
    )
    return largest, probe


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
        return jnp.where(peak.score > 0, peak.coords, 0), peak.score[None]

    return of_each(one, heatmaps, (2, 3))


def get_max_preds(heatmaps: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Integer peaks of a batch of heatmaps.

    Args:
        heatmaps: ``[B, J, H, W]`` real.

    Returns:
        ``coords [B, J, 2]``, ``(x, y)`` in heatmap pixels, the first maximum in
        row-major order, NaN counting as a maximum; (0, 0) where the maximum is not
        above zero. ``maxvals [B, J, 1]``, the maximum of each map. Both float32
        (float64 for float64 input under x64).

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
