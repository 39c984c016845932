"""Checks of arguments: every error names the argument, what came and what is expected.

A check that one file needs alone stands in that file.
"""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_BIND = "bind it before jit, as by functools.partial"


def real_array(name: str, value: ArrayLike | Sequence[float]) -> jax.Array | np.ndarray:
    """``value`` as an array of real numbers, or TypeError."""
    array: Any = value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
    dtype = array.dtype
    if not is_real(dtype):
        raise TypeError(f"{name} must hold real numbers of at most 64 bits, got dtype {dtype}")
    if isinstance(array, np.ndarray):
        array = array.astype(dtype.newbyteorder("="), copy=False)
        # JAX would wrap what 32 bits do not hold.
        if dtype.kind in "iu" and jax.dtypes.canonicalize_dtype(dtype) != dtype:
            array = array.astype(np.float32)
    return array


def is_real(dtype: np.dtype) -> bool:
    """Whether a dtype is of real numbers of at most 64 bits."""
    floating = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 8
    return dtype.kind in "iub" or bool(floating)


def maps_along(
    name: str, value: ArrayLike, axes: Any
) -> tuple[jax.Array | np.ndarray, tuple[int, ...]]:
    """``value`` as maps along ``axes``, and these as indices from 0, in increasing order."""
    array, axes = real_array(name, value), map_axes("axes", axes)
    found = axes_of(name, tuple(array.shape), axes)
    return not_empty(name, array, found), found


def map_axes(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as one to three integers."""
    expected = "one to three axes in increasing order, (..., z, y, x)"
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    axes = tuple(integer(name, axis, expected) for axis in value)
    if not 1 <= len(axes) <= 3:
        raise ValueError(f"{name} must be {expected}, got {axes}")
    return axes


def axes_of(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``axes`` of an array of this name and ``shape`` as indices from 0, which must increase."""
    ndim = len(shape)
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(f"{name} must have axes {axes}, got shape {shape}")
    found = tuple(axis % ndim for axis in axes)
    if any(before >= after for before, after in itertools.pairwise(found)):
        raise ValueError(
            f"axes must be in increasing order, (..., z, y, x), got {axes} of {name} {shape}"
        )
    return found


def other_axis(name: str, value: Any, ndim: int, axes: tuple[int, ...]) -> int:
    """``value`` as the index, from 0, of an axis of an array that is none of its maps' ``axes``."""
    axis = integer(name, value, "an axis")
    if not -ndim <= axis < ndim or axis % ndim in axes:
        others = sorted(set(range(ndim)) - set(axes))
        raise ValueError(f"{name} must be one of {others}, the axes that are no map's, got {axis}")
    return axis % ndim


def not_empty(
    name: str, array: jax.Array | np.ndarray, axes: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """``array``, unless one of its maps' ``axes`` has no pixel."""
    if any(array.shape[axis] == 0 for axis in axes):
        raise ValueError(f"{name} must have maps of at least one pixel, got {tuple(array.shape)}")
    return array


def coordinates(name: str, value: ArrayLike, *, layout: str) -> jax.Array | np.ndarray:
    """``value`` as coordinates of this layout: ``[2]``, ``[..., 2]`` or ``[..., J, 2]``."""
    array = real_array(name, value)
    *leading, dim = layout.strip("[]").split(", ")
    shape = tuple(array.shape)
    least = len(leading) - ("..." in leading) + 1
    fits = len(shape) >= least if "..." in leading else len(shape) == least
    if not fits or shape[-1] != int(dim):
        raise ValueError(f"{name} must have shape {layout}, got {shape}")
    return array


def affines(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """``value`` as affine maps of the plane, ``[..., 2, 3]``."""
    array = real_array(name, value)
    if tuple(array.shape[-2:]) != (2, 3):
        raise ValueError(f"{name} must have shape [..., 2, 3], got {tuple(array.shape)}")
    return array


def odd_kernel(name: str, value: Any) -> int:
    """``value`` as an odd kernel size of at least 1."""
    expected = "an odd integer of at least 1"
    size = integer(name, value, expected)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{name} must be {expected}, got {size}")
    return size


def at_least_one(name: str, value: Any) -> int:
    """``value`` as an integer of at least 1."""
    expected = "an integer of at least 1"
    number = integer(name, value, expected)
    if number < 1:
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def positive_each(name: str, value: Any, dim: int) -> tuple[float, ...]:
    """``value``, one number or a sequence of ``dim``, as ``dim`` positive, finite numbers."""
    if not isinstance(value, tuple | list):
        return (positive(name, value),) * dim
    if len(value) != dim:
        raise ValueError(f"{name} must be one number, or one for each of {dim} axes, got {value}")
    return tuple(positive(name, number) for number in value)


def positive(name: str, value: Any) -> float:
    """``value`` as a concrete, positive, finite number."""
    expected = "a positive, finite number"
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be {expected}, not traced: got {value.aval}; {_BIND}")
    try:
        if isinstance(value, str | bytes | bool | np.bool_):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def broadcastable(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """``value`` as an array of real numbers that broadcasts to ``shape``."""
    array = real_array(name, value)
    try:
        fits = jnp.broadcast_shapes(tuple(array.shape), shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to {tuple(shape)}, got shape {tuple(array.shape)}")
    return array


def positive_array(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, positive and finite when not traced."""
    array = broadcastable(name, value, shape)
    require(name, array, lambda known: np.isfinite(known) & (known > 0), "positive and finite")
    return array


def not_nan(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, none of them NaN when not traced."""
    array = broadcastable(name, value, shape)
    require(name, array, lambda known: ~np.isnan(known), "a number")
    return array


def require(
    name: str,
    array: jax.Array | np.ndarray,
    good: Callable[[np.ndarray], np.ndarray],
    expected: str,
) -> None:
    """ValueError unless all values are ``good``, when they are not traced."""
    if not isinstance(array, jax.core.Tracer):
        known = np.asarray(array)
        wrong = ~good(known)
        if wrong.any():
            raise ValueError(f"{name} must be {expected}, got {known[wrong][0]}")


def map_size(name: str, value: Any, dim: int) -> tuple[int, ...]:
    """``value`` as the ``dim`` sides of a map, each at least 1."""
    layout = {1: "(W,)", 2: "(H, W)", 3: "(D, H, W)"}[dim]
    if not isinstance(value, Sequence | np.ndarray) or len(value) != dim:
        raise ValueError(f"{name} must be {layout}, got {value!r}")
    sides = tuple(integer(name, side, f"{layout} of positive integers") for side in value)
    if min(sides) < 1:
        raise ValueError(f"{name} must be {layout}, each at least 1, got {sides}")
    return sides


def flag(name: str, value: Any) -> bool:
    """``value`` as a Python bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def integer(name: str, value: Any, expected: str = "an integer") -> int:
    """``value`` as an integer; ``expected`` says more of it."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        cure = f"; it is static: {_BIND}" if isinstance(value, jax.core.Tracer) else ""
        raise TypeError(f"{name} must be {expected}, got {value!r}{cure}") from None
