"""Checks of static arguments: every error names the argument, what came and what is expected."""

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

_BIND = "bind it before jit, as by functools.partial"


def real_array(name: str, value: ArrayLike | Sequence[float]) -> jax.Array | np.ndarray:
    """``value`` as an array of real numbers, or TypeError."""
    array: Any = value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
    dtype = array.dtype
    if not _real(dtype):
        raise TypeError(f"{name} must hold real numbers of at most 64 bits, got dtype {dtype}")
    if isinstance(array, np.ndarray):
        array = array.astype(dtype.newbyteorder("="), copy=False)
        # JAX would wrap what 32 bits do not hold.
        if dtype.kind in "iu" and jax.dtypes.canonicalize_dtype(dtype) != dtype:
            array = array.astype(np.float32)
    return array


def real_dtype(name: str, value: DTypeLike) -> np.dtype:
    """``value`` as a dtype of real numbers that JAX computes with as it is set."""
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        raise TypeError(f"{name} must be a dtype, got {value!r}") from None
    if not _real(dtype):
        raise TypeError(f"{name} must be of real numbers of at most 64 bits, got {dtype}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"{name} {dtype} needs jax_enable_x64, which is off")
    return dtype


def _real(dtype: np.dtype) -> bool:
    floating = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 8
    return dtype.kind in "iub" or bool(floating)


def maps(name: str, value: ArrayLike, *, layout: str) -> jax.Array | np.ndarray:
    """``value`` as maps of exactly this layout, whose last two axes are not empty."""
    array = real_array(name, value)
    if len(array.shape) != len(layout.split(",")):
        raise ValueError(f"{name} must have shape {layout}, got {tuple(array.shape)}")
    return _not_empty(name, array, (-2, -1))


def maps_along(
    name: str, value: ArrayLike, axes: Any
) -> tuple[jax.Array | np.ndarray, tuple[int, ...]]:
    """``value`` as maps along ``axes``, and these as indices from 0, in increasing order."""
    array, axes = real_array(name, value), map_axes("axes", axes)
    found = axes_of(name, tuple(array.shape), axes)
    return _not_empty(name, array, found), found


def map_axes(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as one to three integers."""
    expected = "one to three axes in increasing order, (..., z, y, x)"
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    axes = tuple(_integer(name, axis, expected) for axis in value)
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
    axis = _integer(name, value, "an axis")
    if not -ndim <= axis < ndim or axis % ndim in axes:
        others = sorted(set(range(ndim)) - set(axes))
        raise ValueError(f"{name} must be one of {others}, the axes that are no map's, got {axis}")
    return axis % ndim


def _not_empty(
    name: str, array: jax.Array | np.ndarray, axes: tuple[int, ...]
) -> jax.Array | np.ndarray:
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


def boxes(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """``value`` as boxes ``[..., 4]``, finite and not empty as far as known."""
    array = coordinates(name, value, layout="[..., 4]")

    def good(known: np.ndarray) -> np.ndarray:
        return np.asarray(np.isfinite(known).all(-1) & (known[..., 2:] > 0).all(-1))

    _known(name, array, good, "finite (x, y, w, h) with positive w and h")
    return array


def affines(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """``value`` as affine maps of the plane, ``[..., 2, 3]``."""
    array = real_array(name, value)
    if tuple(array.shape[-2:]) != (2, 3):
        raise ValueError(f"{name} must have shape [..., 2, 3], got {tuple(array.shape)}")
    return array


def invertible_affines(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """``value`` as affine maps, each with an inverse as far as known."""
    array = affines(name, value)

    def good(known: np.ndarray) -> np.ndarray:
        (a, b), (c, d) = np.moveaxis(known[..., :2].astype(float), (-2, -1), (0, 1))
        with np.errstate(invalid="ignore"):  # NaN is not singular, and comes out as it went in
            return np.asarray(a * d - b * c != 0)

    _known(name, array, good, "invertible")
    return array


def leads(name: str, lead: tuple[int, ...], other: str, shape: tuple[int, ...]) -> None:
    """``lead`` are the first axes of ``shape``, or 1; else ValueError."""
    fits = len(lead) <= len(shape) and all(
        mine in (1, theirs) for mine, theirs in zip(lead, shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"the leading axes of {name} must be the first of {other}, {tuple(shape)}, or 1, "
            f"got {tuple(lead)}"
        )


def joint_pairs(name: str, value: Any, joints: int) -> tuple[tuple[int, int], ...]:
    """``value`` as pairs of joints, no joint in two of them."""
    expected = "pairs of joints"
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    pairs = []
    for pair in value:
        if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
            raise ValueError(f"{name} must be {expected}, got {pair!r} among them")
        first, second = (_integer(name, joint, expected) for joint in pair)
        pairs.append((first, second))
    found = [joint for pair in pairs for joint in pair]
    if any(not 0 <= joint < joints for joint in found):
        raise ValueError(f"{name} must be joints from 0 to {joints - 1}, got {tuple(pairs)}")
    if len(set(found)) != len(found):
        raise ValueError(f"{name} must name no joint twice, got {tuple(pairs)}")
    return tuple(pairs)


def between(name: str, value: Any, low: int, high: int) -> int:
    """``value`` as an integer from ``low`` to ``high``."""
    expected = f"an integer from {low} to {high}"
    number = _integer(name, value, expected)
    if not low <= number <= high:
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def odd_kernel(name: str, value: Any) -> int:
    """``value`` as an odd kernel size of at least 1."""
    expected = "an odd integer of at least 1"
    size = _integer(name, value, expected)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{name} must be {expected}, got {size}")
    return size


def integer(name: str, value: Any) -> int:
    """``value`` as an integer."""
    return _integer(name, value, "an integer")


def integers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``value`` as integers of any size, broadcast to ``shape``."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to {shape}, got shape {array.shape}") from None


def at_least_one(name: str, value: Any) -> int:
    """``value`` as an integer of at least 1."""
    expected = "an integer of at least 1"
    number = _integer(name, value, expected)
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
    """``value`` as numbers that broadcast to ``shape``, positive and finite as far as known."""
    array = broadcastable(name, value, shape)
    _known(name, array, lambda known: np.isfinite(known) & (known > 0), "positive and finite")
    return array


def not_nan(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, none of them NaN as far as known."""
    array = broadcastable(name, value, shape)
    _known(name, array, lambda known: ~np.isnan(known), "a number")
    return array


def finite_array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, finite as far as known."""
    array = broadcastable(name, value, shape)
    _known(name, array, np.isfinite, "finite")
    return array


def _known(
    name: str,
    array: jax.Array | np.ndarray,
    good: Callable[[np.ndarray], np.ndarray],
    expected: str,
) -> None:
    if not isinstance(array, jax.core.Tracer):
        known = np.asarray(array)
        wrong = ~good(known)
        if wrong.any():
            raise ValueError(f"{name} must be {expected}, got {known[wrong][0]}")


def numbers(name: str, value: ArrayLike | Sequence[float]) -> jax.Array | np.ndarray:
    """``value`` as at least one number in a row, none of them NaN as far as known."""
    array = real_array(name, value)
    if len(array.shape) != 1 or not array.shape[0]:
        raise ValueError(f"{name} must be at least one number in a row, got {tuple(array.shape)}")
    return not_nan(name, array, tuple(array.shape))


def averaged_axes(name: str, value: Any, ndim: int) -> tuple[int, ...]:
    """``value``, an integer, a tuple or None for all, as different axes of ``ndim``, from 0."""
    if value is None:
        return tuple(range(ndim))
    expected = f"None, an axis or a tuple of different axes of {ndim}"
    axes = value if isinstance(value, tuple | list) else (value,)
    axes = tuple(_integer(name, axis, expected) for axis in axes)
    found = {axis % ndim for axis in axes if -ndim <= axis < ndim}
    if not axes or len(found) != len(axes):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return tuple(sorted(found))


def map_size(name: str, value: Any, dim: int) -> tuple[int, ...]:
    """``value`` as the ``dim`` sides of a map, each at least 1."""
    layout = {1: "(W,)", 2: "(H, W)", 3: "(D, H, W)"}[dim]
    if not isinstance(value, Sequence | np.ndarray) or len(value) != dim:
        raise ValueError(f"{name} must be {layout}, got {value!r}")
    sides = tuple(_integer(name, side, f"{layout} of positive integers") for side in value)
    if min(sides) < 1:
        raise ValueError(f"{name} must be {layout}, each at least 1, got {sides}")
    return sides


def chosen(name: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """``value`` as one or more different ones of the ``allowed`` words."""
    expected = f"one or more of {allowed}"
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be a tuple, {expected}, got {value!r}")
    if not value or len(set(value)) != len(value) or not set(value) <= set(allowed):
        raise ValueError(f"{name} must be {expected}, each once, got {value!r}")
    return tuple(value)


def named(name: str, value: Any) -> dict[str, Any]:
    """``value`` as a dictionary whose keys are words."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dictionary of names and values, got {value!r}")
    return dict(value)


def flag(name: str, value: Any) -> bool:
    """``value`` as a Python bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _integer(name: str, value: Any, expected: str) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        cure = f"; it is static: {_BIND}" if isinstance(value, jax.core.Tracer) else ""
        raise TypeError(f"{name} must be {expected}, got {value!r}{cure}") from None
