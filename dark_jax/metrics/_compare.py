"""Compare predictions with the truth: which joints count, their distances, and the mean."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import as_float, inverse_power_of_two, together

# Smaller scales count as zero: gradients are divided by their squares, which would underflow.
LEAST = 1e-15


class Checked(NamedTuple):
    """The arrays that every metric takes, and the shape ``[..., J]`` of the joints."""

    arrays: tuple[Any, Any, Any]
    joints: tuple[int, ...]


def checked(
    coords: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike | None,
    *,
    layout: str = "[..., J, dim]",
) -> Checked:
    """Check the arrays that every metric takes; an error names the argument."""
    coords = checks.coordinates("coords", coords, layout=layout)
    truth = checks.coordinates("truth", truth, layout=layout)
    if coords.shape[-1] != truth.shape[-1]:
        raise ValueError(
            f"truth must have the dimension of coords, got shapes {tuple(truth.shape)} and "
            f"{tuple(coords.shape)}"
        )
    try:
        shape = np.broadcast_shapes(coords.shape, truth.shape)
    except ValueError:
        shape = ()
    if not shape or coords.shape[-2] != truth.shape[-2]:
        raise ValueError(
            "truth must have the joints of coords, and leading axes that broadcast with theirs, "
            f"got {tuple(truth.shape)} and {tuple(coords.shape)}"
        )
    joints = tuple(shape[:-1])
    seen = checks.broadcastable("visible", True if visible is None else visible, joints)
    return Checked((coords, truth, seen), joints)


def averaged_axes(name: str, value: Any, ndim: int) -> tuple[int, ...]:
    """Return ``value`` (an axis, a tuple of axes, or None for all) as axes counted from 0."""
    if value is None:
        return tuple(range(ndim))
    expected = f"None, an axis from {-ndim} to {ndim - 1} or a tuple of different ones"
    axes = value if isinstance(value, tuple | list) else (value,)
    axes = tuple(checks.integer(name, axis, expected) for axis in axes)
    found = {axis % ndim for axis in axes if -ndim <= axis < ndim}
    if not axes or len(found) != len(axes):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return tuple(sorted(found))


class Compared(NamedTuple):
    """The ``offset [..., J, dim]`` from truth to prediction, zero if a joint is not ``counted``."""

    offset: jax.Array
    counted: jax.Array


def compare(coords: jax.Array, truth: jax.Array, visible: jax.Array) -> Compared:
    """Compare in the finer of both precisions; a joint without a finite truth does not count."""
    coords, truth = jnp.broadcast_arrays(*together(coords, truth))
    counted = jnp.broadcast_to(as_float(visible) > 0, coords.shape[:-1])
    counted &= jnp.all(jnp.isfinite(truth), axis=-1)
    return Compared(jnp.where(counted[..., None], coords - truth, 0), counted)


def distance(offset: jax.Array) -> jax.Array:
    """``[...]`` lengths of ``[..., dim]``, exact at any scale; the gradient at zero is zero."""
    size = jnp.max(jnp.abs(offset), axis=-1)
    regular = (size > 0) & jnp.isfinite(size)
    scale = inverse_power_of_two(size)
    scaled = jnp.where(regular[..., None], offset * scale[..., None], 1)
    # An infinite or NaN offset makes this sum infinite or NaN, but keeps its gradient finite.
    rest = jnp.where((regular | (size == 0))[..., None], 0, offset)
    rest = jnp.sum(jnp.abs(rest), axis=-1)
    return jnp.where(regular, jnp.sqrt(jnp.sum(scaled * scaled, axis=-1)) / scale, rest)


def measured(compared: Compared, normalize: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return distances in units of ``normalize``; those with a positive, finite unit count."""
    length = distance(compared.offset)
    unit = jnp.broadcast_to(normalize.astype(length.dtype), length.shape[:-1])
    usable = jnp.isfinite(unit) & (unit >= LEAST)
    length = length / jnp.where(usable, unit, 1)[..., None]
    return length, compared.counted & usable[..., None]


def mean(values: jax.Array, counted: jax.Array, axis: tuple[int, ...]) -> jax.Array:
    """Return the mean over the values that count, or 0 if none counts."""
    number = jnp.maximum(jnp.sum(counted, axis), 1).astype(values.dtype)
    return jnp.sum(jnp.where(counted, values, 0), axis) / number
