"""Checks of static arguments: every error names the argument, what came and what is expected."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def real_array(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """``value`` as an array of real numbers, or TypeError."""
    array: Any = value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
    dtype = array.dtype
    if not (dtype.kind in "iub" or (jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 8)):
        raise TypeError(f"{name} must hold real numbers of at most 64 bits, got dtype {dtype}")
    if isinstance(array, np.ndarray):
        array = array.astype(dtype.newbyteorder("="), copy=False)
        # JAX would wrap what 32 bits do not hold.
        if dtype.kind in "iu" and jax.dtypes.canonicalize_dtype(dtype) != dtype:
            array = array.astype(np.float32)
    return array


def maps(name: str, value: ArrayLike, *, layout: str = "[..., H, W]") -> jax.Array | np.ndarray:
    """``value`` as maps of the given layout, whose last two axes are not empty."""
    array = real_array(name, value)
    axes = layout.strip("[]").split(", ")
    if len(array.shape) < 2 or (axes[0] != "..." and len(array.shape) != len(axes)):
        raise ValueError(f"{name} must have shape {layout}, got {tuple(array.shape)}")
    if 0 in array.shape[-2:]:
        raise ValueError(f"{name} must have H >= 1 and W >= 1, got shape {tuple(array.shape)}")
    return array


def coordinates(name: str, value: ArrayLike, *, layout: str = "[..., 2]") -> jax.Array | np.ndarray:
    """``value`` as (x, y) coordinates."""
    array = real_array(name, value)
    single = layout == "[2]"
    if len(array.shape) < 1 or array.shape[-1] != 2 or (single and len(array.shape) != 1):
        raise ValueError(f"{name} must have shape {layout}, got {tuple(array.shape)}")
    return array


def odd_kernel(name: str, value: Any) -> int:
    """``value`` as an odd kernel size of at least 1."""
    size = _integer(name, value, "an odd integer of at least 1")
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{name} must be an odd integer of at least 1, got {size}")
    return size


def positive(name: str, value: Any) -> float:
    """``value`` as a concrete, positive, finite number."""
    expected = "a positive, finite number"
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be {expected}, not traced: got {value.aval}")
    try:
        if isinstance(value, str | bytes | bool | np.bool_):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def broadcastable(name: str, value: ArrayLike, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
    """``value`` as an array of real numbers that broadcasts to ``shape``."""
    array = real_array(name, value)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to {tuple(shape)}, got shape {tuple(array.shape)}")
    return array


def positive_array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, positive and finite as far as known."""
    array = broadcastable(name, value, shape)
    if not isinstance(array, jax.core.Tracer):
        known = np.asarray(array)
        wrong = ~(np.isfinite(known) & (known > 0))
        if wrong.any():
            raise ValueError(f"{name} must be positive and finite, got {known[wrong].flat[0]}")
    return array


def map_size(name: str, value: Any) -> tuple[int, int]:
    """``value`` as ``(H, W)``, both at least 1."""
    if not isinstance(value, Sequence | np.ndarray) or len(value) != 2:
        raise ValueError(f"{name} must be (H, W), got {value!r}")
    height, width = (_integer(name, side, "a pair of positive integers") for side in value)
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be (H, W), both at least 1, got {(height, width)}")
    return height, width


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
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None
