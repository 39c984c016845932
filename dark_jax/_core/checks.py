"""Checks of arguments. Every error names the argument, what was given and what is expected.

A check that only one file needs is in that file.
"""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._core.numerics import known_values

# The limits of normal numbers in float32, in which most is computed.
_SMALLEST, _LARGEST = (float(getattr(np.finfo(np.float32), end)) for end in ("tiny", "max"))
# float32 counts exactly up to the first number, and int32 up to the second.
_LONGEST_SIDE, _LARGEST_MAP = 2**24, 2**31 - 1
_COUNTABLE = f"at most {_LONGEST_SIDE} pixels along an axis and {_LARGEST_MAP} in all"
_BIND = "it is static: bind it before jit, for example with functools.partial"


def real_array(name: str, value: ArrayLike | Sequence[float]) -> jax.Array | np.ndarray:
    """Return ``value`` as an array of real numbers, or raise TypeError."""
    array = _array(name, value)
    dtype = array.dtype
    if not is_real(dtype):
        cure = "; NumPy's files have no bfloat16: save float32" if dtype == "V2" else ""
        raise TypeError(
            f"{name} must hold real numbers of at most 64 bits, got dtype {dtype}{cure}"
        )
    if dtype.kind == "V" and dtype.itemsize == 1:  # few operations take types of 8 bits or less
        array = array.astype(np.int8 if jnp.issubdtype(dtype, jnp.integer) else np.float32)
    if isinstance(array, np.ndarray):
        array = np.asarray(array)  # a subclass may have methods that behave differently
        dtype = array.dtype.newbyteorder("=")
        array = array.astype(dtype, copy=False)
        # JAX would wrap integers that do not fit into 32 bits.
        if dtype.kind in "iu" and jax.dtypes.canonicalize_dtype(dtype) != dtype:
            array = array.astype(np.float32)
    return array


def _array(name: str, value: Any) -> Any:
    """Return ``value`` as an array of any dtype, or raise TypeError."""
    if isinstance(value, Keypoints):
        raise TypeError(
            f"{name} must be an array, got Keypoints: give keypoints.coords, or another of its "
            "arrays"
        )
    if np.ma.is_masked(value):
        raise TypeError(f"{name} must be an array without a mask, got a masked one: fill it first")
    if isinstance(value, jax.Array | np.ndarray):
        return value
    traced = isinstance(value, list | tuple) and any(
        isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)
    )
    array = jnp.asarray(value) if traced else numpy_array(name, value)
    if array.dtype == object:
        raise TypeError(f"{name} must be an array of real numbers, got {value!r:.200}")
    return array


def numpy_array(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as a NumPy array, or raise TypeError."""
    try:
        return np.asarray(value)
    except Exception as error:  # lists of unequal lengths, arrays of other libraries
        raise TypeError(f"{name} must be an array of numbers: {error}") from error


def is_real(dtype: np.dtype) -> bool:
    """Whether a dtype holds real numbers of at most 64 bits."""
    kind = getattr(dtype, "kind", None)  # the dtype of a JAX random key has no kind
    # NumPy gives the kind of void, V, to bfloat16 and to types such as float8 and int4.
    narrow = kind == "V" and any(jnp.issubdtype(dtype, k) for k in (jnp.floating, jnp.integer))
    return (kind in tuple("biuf") or narrow) and dtype.itemsize <= 8


def keypoints(name: str, value: Any, *, traced: bool = False, cure: str = "") -> None:
    """Raise an error unless ``value`` is :class:`Keypoints` whose arrays fit together.

    The error is a TypeError or a ValueError. ``traced`` allows traced arrays. ``cure`` is added to
    the error for a value that is not Keypoints, and says what to do.
    """
    if not isinstance(value, Keypoints):
        raise TypeError(f"{name} must be dark_jax.Keypoints, got {type(value).__name__}{cure}")
    there = dict(vars(value))
    if there["covariance"] is None:
        del there["covariance"]
    for field, array in there.items():
        if not isinstance(array, jax.Array | np.ndarray | np.generic):
            got = type(array).__name__
            raise TypeError(f"{name}.{field} must be an array, got {got}: give jnp.asarray of it")
        if isinstance(array, jax.core.Tracer) and not traced:
            raise TypeError(f"{name} must not be traced: return them from jit or vmap first")
        if not is_real(array.dtype):
            raise TypeError(f"{name}.{field} must hold real numbers, got dtype {array.dtype}")
    shape = tuple(value.coords.shape)
    fit = {"scores": shape[:-1], "status": shape[:-1], "covariance": (*shape, *shape[-1:])}
    for field, expected in fit.items():
        if field in there and tuple(got := getattr(value, field).shape) != expected:
            raise ValueError(
                f"{name}.{field} must have shape {expected} beside coords {shape}, got {tuple(got)}"
            )
    if not traced:  # where tracing is allowed, values are not fetched from the device
        codes = np.asarray(value.status)
        if codes.dtype.kind not in "iu":
            raise TypeError(
                f"{name}.status must be integers, got dtype {codes.dtype}: give .astype(int)"
            )
        require(f"{name}.status", codes, lambda c: np.isin(c, [*Status]), f"0 to {max(Status)}")


def function(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")


def path(name: str, value: Any) -> Path:
    """``value`` as a path."""
    try:
        found = Path(value)
    except TypeError:
        raise TypeError(f"{name} must be a path, got {value!r:.200}") from None
    if "\0" in str(found):
        raise ValueError(f"{name} must be a path, without a NUL character, got {value!r}")
    return found


def maps_along(
    name: str, value: ArrayLike, axes: Any
) -> tuple[jax.Array | np.ndarray, tuple[int, ...]]:
    """``value`` as maps along ``axes``, and ``axes`` as increasing indices from 0."""
    array, axes = real_array(name, value), map_axes("axes", axes)
    found = axes_of(name, tuple(array.shape), axes)
    map_sides(name, tuple(array.shape), found)
    return array, found


def sequence(name: str, value: Any, expected: str) -> Sequence[Any] | np.ndarray:
    """Return ``value`` if it is a list, tuple or array; else the error asks for ``expected``."""
    array = isinstance(value, np.ndarray) and value.ndim > 0
    if not (array or isinstance(value, Sequence)) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be {expected}, got {value!r}{_cure(value)}")
    return value


def map_axes(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as one to three integers."""
    expected = "one to three axes in increasing order, (..., z, y, x)"
    axes = integers(name, value, expected)
    if not 1 <= len(axes) <= 3:
        raise ValueError(f"{name} must be {expected}, got {axes}")
    return axes


def axes_of(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``axes`` of the array ``name`` of this ``shape`` as indices from 0, which must increase."""
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
    """``value`` as the index, from 0, of an axis that is not one of the ``axes`` of a map."""
    axis = integer(name, value, "an axis")
    if not -ndim <= axis < ndim or axis % ndim in axes:
        others = sorted(set(range(ndim)) - set(axes))
        raise ValueError(
            f"{name} must be one of {others}, the axes that do not belong to a map, got {axis}"
        )
    return axis % ndim


def map_sides(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Raise ValueError if the maps along ``axes`` of an array of this ``shape`` are empty.

    Also raise it if they are so large that float32 and int32 cannot count their pixels.
    """
    if any(shape[axis] == 0 for axis in axes):
        raise ValueError(f"{name} must have maps of at least one pixel, got shape {shape}")
    sides = [shape[axis] for axis in axes if isinstance(shape[axis], int)]
    if max(sides, default=0) > _LONGEST_SIDE or math.prod(sides) > _LARGEST_MAP:
        raise ValueError(f"{name} must have maps of {_COUNTABLE}, got shape {shape}: divide them")


def coordinates(name: str, value: ArrayLike, *, layout: str) -> jax.Array | np.ndarray:
    """``value`` as coordinates of this layout: ``[2]``, ``[..., J, 2]`` or ``[..., dim]``.

    ``dim`` is 1, 2 or 3.
    """
    array = real_array(name, value)
    *leading, dim = layout.strip("[]").split(", ")
    shape = tuple(array.shape)
    least = len(leading) - ("..." in leading) + 1
    fits = len(shape) >= least if "..." in leading else len(shape) == least
    dims = (1, 2, 3) if dim == "dim" else (int(dim),)
    if not fits or shape[-1] not in dims:
        of = ", dim from 1 to 3" if dim == "dim" else ""
        raise ValueError(f"{name} must have shape {layout}{of}, got {shape}")
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
        raise TypeError(f"{name} must be {expected}, not traced, got {value.aval}; {_BIND}")
    try:
        if isinstance(value, str | bytes | bool | np.bool_):
            raise TypeError
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be {expected}, got {number}{_no_blob(name, number)}")
    if not _SMALLEST <= number <= _LARGEST:
        raise ValueError(f"{name} must be a number that float32 can hold, got {number}")
    return number


def _no_blob(name: str, number: float) -> str:
    """The probable cause of an infinite sigma, for the error message."""
    if name not in ("sigma", "blur_sigma") or number != math.inf:
        return ""
    return (
        ", which estimate_sigma returns if it finds no clear blob: look at the maps "
        "(apply jax.nn.sigmoid to logits first), or give the sigma of the training"
    )


def sigmas(
    name: str, value: ArrayLike | Sequence[Any], others: tuple[int, ...], dim: int
) -> jax.Array | np.ndarray:
    """``value`` as positive numbers that broadcast to coordinates ``[*others, dim]``."""
    if isinstance(value, bool | int | float | str):
        value = positive(name, value)
    array, shape = real_array(name, value), (*others, dim)
    cure = ""
    if array.ndim and array.shape[-1] not in (1, dim):
        cure = f": give one number, one for each of {dim} axes, or, for joints, {name}[..., None]"
    return positive_array(name, array, shape, cure=cure)


def broadcastable(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...], *, cure: str = ""
) -> jax.Array | np.ndarray:
    """``value`` as an array of real numbers that broadcasts to ``shape``."""
    array = real_array(name, value)
    try:
        fits = jnp.broadcast_shapes(tuple(array.shape), shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        got = f"got shape {tuple(array.shape)}{cure}"
        raise ValueError(f"{name} must broadcast to {tuple(shape)}, {got}")
    return array


def positive_array(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...], *, cure: str = ""
) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, positive and finite when not traced."""
    array = broadcastable(name, value, shape, cure=cure)
    require(name, array, lambda known: np.isfinite(known) & (known > 0), "positive and finite")
    held = f"at least {_SMALLEST:.1e} and at most {_LARGEST:.1e}"

    def held_by_float32(known: np.ndarray) -> np.ndarray:
        known = known.astype(float)  # float16 does not hold the limits
        return (known >= _SMALLEST) & (known <= _LARGEST)

    require(name, array, held_by_float32, held)
    return array


def finite(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """``value`` as numbers that broadcast to ``shape``, all of them finite when not traced."""
    array = broadcastable(name, value, shape)
    require(name, array, np.isfinite, "finite")
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
    """Raise ValueError if a known value is not ``good``; values of a traced array are not known."""
    known = known_values(array)
    if known is not None:
        wrong = ~good(known)
        if wrong.any():
            got = known[wrong][0]
            raise ValueError(f"{name} must be {expected}, got {got}{_no_blob(name, got)}")


def map_size(name: str, value: Any, dim: int) -> tuple[int, ...]:
    """``value`` as the ``dim`` sides of a map, each at least 1."""
    layout = {1: "(W,)", 2: "(H, W)", 3: "(D, H, W)"}[dim]
    if len(sequence(name, value, layout)) != dim:
        raise ValueError(f"{name} must be {layout}, got {value!r}")
    sides = tuple(integer(name, side, f"{layout} of positive integers") for side in value)
    if min(sides) < 1:
        raise ValueError(f"{name} must be {layout}, each at least 1, got {sides}")
    if max(sides) > _LONGEST_SIDE or math.prod(sides) > _LARGEST_MAP:
        raise ValueError(f"{name} must be that of maps of {_COUNTABLE}, got {sides}: divide them")
    return sides


def flag(name: str, value: Any) -> bool:
    """``value`` as a Python bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}{_cure(value)}")
    return bool(value)


def integer(name: str, value: Any, expected: str = "an integer") -> int:
    """``value`` as an integer; otherwise the error asks for ``expected``."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {expected}, got {value!r}{_cure(value)}") from None


def integers(name: str, value: Any, expected: str) -> tuple[int, ...]:
    """``value`` as a tuple of integers; otherwise the error asks for ``expected``."""
    return tuple(integer(name, each, expected) for each in sequence(name, value, expected))


def _cure(value: Any) -> str:
    return f"; {_BIND}" if isinstance(value, jax.core.Tracer) else ""
