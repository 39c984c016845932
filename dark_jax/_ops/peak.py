"""The peak of a map, by reductions that run at the speed of memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dark_jax._core.numerics import as_float, lowest
from dark_jax._ops.pixels import Position, stored


class FlatTop(NamedTuple):
    """The pixels that tie with a peak and touch.

    ``centre`` is their centroid from the peak, (x, y, ...); ``tolerance`` how far from it a blob's
    middle may be. ``wide`` is False for so few pixels that they tell nothing. ``whole`` is False
    where the top goes on further than it was followed. ``unclear`` is True where it meets the
    edge of the map, or has no pixel near its centroid: no step from it can be believed, and
    nothing else of it is known.
    """

    centre: Position
    tolerance: jax.Array
    wide: jax.Array
    whole: jax.Array
    unclear: jax.Array


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
    score, rest, position = jnp.max(largest), heatmap, []
    while rest.ndim > 1:
        score, at = _best(largest, jnp.isnan(probe))
        position.insert(0, at)
        # Reads by index arrays: a vmapped slice at a computed place fails on explicit meshes.
        rest = stored(rest).at[at[None]].get(mode="promise_in_bounds")[0]
        largest, probe = _rows(rest)
    at = _first(jnp.isnan(probe), largest == score)
    # Read, not computed: the gradient goes to this pixel, and -0.0 keeps its sign.
    value = stored(rest).at[at[None]].get(mode="promise_in_bounds")[0]
    return Peak((at, *position), value)


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


def _best(values: jax.Array, is_nan: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The greatest value, and the index of the first that is NaN, else of the first of that value.

    Infinity where there is a NaN. In one reduction: two would be two kernels of a GPU.
    """
    size, index = len(values), jnp.arange(len(values), dtype=jnp.int32)
    start = lowest(values.dtype), jnp.int32(size)
    if jnp.issubdtype(values.dtype, jnp.floating):
        # As great as infinity, and before it.
        values, index = jnp.where(is_nan, jnp.inf, values), jnp.where(is_nan, index - size, index)

    def better(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        keep = (a[0] > b[0]) | (a[0] == b[0]) & (a[1] < b[1])
        return jnp.where(keep, a[0], b[0]), jnp.where(keep, a[1], b[1])

    value, index = lax.reduce((values, index), start, better, (0,))
    return value, jnp.where(index < 0, index + size, index)


def _first(best: jax.Array, good: jax.Array) -> jax.Array:
    """Index of the first that is best, else of the first that is good; else the last."""
    size = len(best)
    # In float32, exact to 2^24: the CPU reduces integers several times slower.
    index = jnp.arange(size, dtype=jnp.float32)
    first = jnp.min(jnp.where(best, index - size, jnp.where(good, index, size - 1)))
    return jnp.where(first < 0, first + size, first).astype(jnp.int32)
