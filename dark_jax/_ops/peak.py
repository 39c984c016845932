"""The peak of a map, by reductions that run at the speed of memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dark_jax._core.numerics import as_float
from dark_jax._ops.pixels import Position, stored


class FlatTop(NamedTuple):
    """The pixels that tie with a peak and touch.

    ``centre`` is their centroid from the peak, (x, y, ...); ``tolerance`` how far from it a blob's
    middle may be. ``wide`` is False for so few pixels that they tell nothing, ``whole`` is False
    where the top goes on further than it was followed, ``at_edge`` True where it meets the map's.
    """

    centre: Position
    tolerance: jax.Array
    wide: jax.Array
    whole: jax.Array
    at_edge: jax.Array


class Peak(NamedTuple):
    """Where a map has its maximum, integers (x, y, ...), and the value there; all scalars.

    ``top`` is None where the place is the first tie, whatever ties with it.
    """

    position: Position
    value: jax.Array
    top: FlatTop | None = None

    @property
    def score(self) -> jax.Array:
        """The value in floating point."""
        return as_float(self.value)

    def moved(self, position: Position) -> "Peak":
        """The same one seen from another pixel."""
        if self.top is None:
            return self._replace(position=position)
        centre = [
            away + (old - new).astype(away.dtype)
            for away, old, new in zip(self.top.centre, self.position, position, strict=True)
        ]
        return self._replace(position=position, top=self.top._replace(centre=tuple(centre)))

    @property
    def coords(self) -> jax.Array:
        """``[dim]`` (x, y, ...), of the score's dtype."""
        return jnp.stack(self.position).astype(self.score.dtype)


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
            return Peak(tuple(position), rest)
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
