"""The peak of a map, found by reductions that run at the speed of memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dark_jax._core.numerics import as_float
from dark_jax._ops.pixels import Position, stored


class FlatTop(NamedTuple):
    """The connected pixels that tie with a peak.

    ``centre`` is their centroid, counted from the peak, (x, y, ...). ``tolerance`` is how far the
    middle of the blob may be from it. ``wide`` is False if the pixels are too few to tell anything.
    ``whole`` is False if the top may go on further than it was followed. ``unclear`` is True if
    the top meets the edge of the map or has no pixel near its centroid. Then no step from it can be
    trusted, and nothing else is known of it.
    """

    centre: Position
    tolerance: jax.Array
    wide: jax.Array
    whole: jax.Array
    unclear: jax.Array


class Peak(NamedTuple):
    """The place of the maximum of a map, integers (x, y, ...), and its value; all are scalars.

    ``top`` is None if the place is the first of tied pixels and no flat top was looked for.
    """

    position: Position
    value: jax.Array
    top: FlatTop | None = None

    @property
    def score(self) -> jax.Array:
        """The value in floating point."""
        return as_float(self.value)

    def moved(self, position: Position) -> "Peak":
        """The same peak, seen from another pixel."""
        if self.top is None:
            return self._replace(position=position)
        centre = [
            away + (old - new).astype(away.dtype)
            for away, old, new in zip(self.top.centre, self.position, position, strict=True)
        ]
        return self._replace(position=position, top=self.top._replace(centre=tuple(centre)))

    @property
    def coords(self) -> jax.Array:
        """``[dim]``, (x, y, ...), in the dtype of the score."""
        return jnp.stack(self.position).astype(self.score.dtype)


def find_peak(heatmap: jax.Array) -> Peak:
    """NumPy's argmax of one map of any dimension: the first NaN, else the first maximum.

    The maxima of the rows are searched first, then one row. An ``argmax`` over the whole map is
    scalar code on the CPU, which is 6 to 10 times slower.
    """
    rest, position = heatmap, []
    while rest.ndim > 1:
        at = _first_of_few(_largest(rest))
        position.insert(0, at)
        # An index array is used, because a vmapped slice at a computed place fails on explicit
        # meshes.
        rest = stored(rest).at[at[None]].get(mode="promise_in_bounds")[0]
    values = lax.stop_gradient(rest)
    at = _first_of_few(values) if position else _first(values)
    # The value is read, not computed. So the gradient goes to this pixel, and -0.0 keeps its sign.
    value = stored(rest).at[at[None]].get(mode="promise_in_bounds")[0]
    return Peak((at, *position), value)


def _largest(values: jax.Array) -> jax.Array:
    """The maximum over all axes but the first; NaN where they hold a NaN."""
    # Values keep their dtype. Integers compare exactly, and a converted copy would be written to
    # memory.
    values = lax.stop_gradient(values)
    largest = jnp.max(values, axis=tuple(range(1, values.ndim)))
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return lax.optimization_barrier(largest)
    # ``max`` may drop NaN on the CPU. Squares are summed to find it, because a plain sum is also
    # NaN for infinities of both signs.
    every = list(range(values.ndim))
    probe = jnp.einsum(values, every, values, every, [0], preferred_element_type=jnp.float32)
    # Without the barrier, XLA fuses the next steps into the reductions and reads the map twice.
    largest, probe = lax.optimization_barrier((largest, probe))
    return jnp.where(jnp.isnan(probe), jnp.nan, largest)


def maximum(heatmap: jax.Array) -> jax.Array:
    """NumPy's maximum of one map: NaN if it holds a NaN. Its gradient goes to the first peak."""
    return find_peak(heatmap).score


def _first_of_few(values: jax.Array) -> jax.Array:
    """As :func:`_first`, in one GPU kernel instead of two, but slow on the CPU for many values."""
    # JAX does not lower the argmax of float64 while x64 is off, and some float64 code runs then.
    return _first(values) if values.dtype == jnp.float64 else lax.argmax(values, 0, jnp.int32)


def _first(values: jax.Array) -> jax.Array:
    """Index of the first NaN, else of the first maximum."""
    size, largest = len(values), jnp.max(values)
    # Indices are float32, which is exact up to 2^24. The CPU reduces integers several times slower.
    index = jnp.arange(size, dtype=jnp.float32)
    maxima = jnp.where(values == largest, index, size - 1)
    first = jnp.min(jnp.where(values != values, index - size, maxima))
    return jnp.where(first < 0, first + size, first).astype(jnp.int32)
