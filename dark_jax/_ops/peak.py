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
    6 to 10 times slower.
    """
    rest, position = heatmap, []
    while rest.ndim > 1:
        at = _first_of_few(_largest(rest))
        position.insert(0, at)
        # Reads by index arrays: a vmapped slice at a computed place fails on explicit meshes.
        rest = stored(rest).at[at[None]].get(mode="promise_in_bounds")[0]
    values = lax.stop_gradient(rest)
    at = _first_of_few(values) if position else _first(values)
    # Read, not computed: the gradient goes to this pixel, and -0.0 keeps its sign.
    value = stored(rest).at[at[None]].get(mode="promise_in_bounds")[0]
    return Peak((at, *position), value)


def _largest(values: jax.Array) -> jax.Array:
    """Along the first axis the maximum of the rest, NaN where the rest holds one."""
    # The input's own dtype: integers compare exactly, and a converted copy would be
    # written to memory.
    values = lax.stop_gradient(values)
    largest = jnp.max(values, axis=tuple(range(1, values.ndim)))
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return lax.optimization_barrier(largest)
    # ``max`` may drop NaN on the CPU. Squares, because a plain sum is also NaN of two infinities.
    every = list(range(values.ndim))
    probe = jnp.einsum(values, every, values, every, [0], preferred_element_type=jnp.float32)
    # Without the barrier XLA fuses what follows into the reductions and reads twice.
    largest, probe = lax.optimization_barrier((largest, probe))
    return jnp.where(jnp.isnan(probe), jnp.nan, largest)


def maximum(heatmap: jax.Array) -> jax.Array:
    """NumPy's maximum of one map: NaN if it holds one. Its gradient goes to the first peak."""
    return find_peak(heatmap).score


def _first_of_few(values: jax.Array) -> jax.Array:
    """As :func:`_first`: one kernel of a GPU and not two, but slow on the CPU where many."""
    # JAX does not lower the argmax of float64 where x64 is off: what runs in float64 all the same.
    return _first(values) if values.dtype == jnp.float64 else lax.argmax(values, 0, jnp.int32)


def _first(values: jax.Array) -> jax.Array:
    """Index of the first NaN, else of the first maximum."""
    size, largest = len(values), jnp.max(values)
    # In float32, exact to 2^24: the CPU reduces integers several times slower.
    index = jnp.arange(size, dtype=jnp.float32)
    maxima = jnp.where(values == largest, index, size - 1)
    first = jnp.min(jnp.where(values != values, index - size, maxima))
    return jnp.where(first < 0, first + size, first).astype(jnp.int32)
