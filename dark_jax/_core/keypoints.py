"""The results of a decoder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NoReturn, Self, TypeVar, dataclass_transform

import chex
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from dark_jax._core.numerics import known_values

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def _result(cls: type[_T]) -> type[_T]:
    """A frozen chex dataclass that type checkers understand."""
    frozen: Any = chex.dataclass(cls, frozen=True, kw_only=True, mappable_dataclass=False)
    return frozen


class Status(IntEnum):
    """The reason why a keypoint is not refined, or ``REFINED``.

    If several reasons apply, the status is the one with the lowest number.

    Attributes:
        REFINED: the sub-pixel step was taken.
        NOT_FINITE: the score, or a value in the window around the peak, is NaN, infinite or too
            large to be blurred.
        NO_PEAK: the maximum of the map is not above zero, or for a fit not above the background.
            It also marks empty slots of ``decode_peaks``.
        BORDER: the peak is so close to an edge that the step would need pixels outside the map.
            For most rules these are the two outermost rows and columns. A fit has this status if
            it ends more than a pixel outside the map.
        NOT_CONCAVE: the map has no clear maximum here. The Hessian of its logarithm is not
            negative definite. Or a value that the step needs is not above the floor of the rule,
            as in logits. Or no blob of positive height fits. Or the middle of a flat top is
            unknown: the top is hollow or meets the edge of the map or window, or the step ends
            too far from its centroid.
        STEP_TOO_LONG: the step would leave the neighbourhood of the peak.

    Notes:
        If the status is not ``REFINED``, ``decode`` with ``GUARDED``, ``decode_fit`` and
        ``decode_peaks`` return the integer peak, or the middle pixel of a flat top. They return
        NaN if the score is NaN, and 0 for an empty slot. Published rules and
        ``decode_soft_argmax`` return their own result whatever the status, which judges it by the
        checks of ``GUARDED``. Rules without a Newton step, such as ``HRNET``, are judged only by
        their own guard at the border and by what is obviously wrong, such as a centroid outside
        its window.

    Example:
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[8.5, 7.25], [0.0, 9.0]], size=(20, 16)))
        >>> [dark_jax.Status(code).name for code in keypoints.status.tolist()]
        ['REFINED', 'BORDER']
        >>> (keypoints.status == dark_jax.Status.REFINED).tolist()
        [True, False]

    References:
        These checks are our own. :mod:`dark_jax.rules` lists what published code does instead.
    """

    REFINED = 0
    NOT_FINITE = 1
    NO_PEAK = 2
    BORDER = 3
    NOT_CONCAVE = 4
    STEP_TOO_LONG = 5


@_result
class Keypoints:
    """Decoded keypoints, one or several for each map: a frozen pytree, read by name.

    Attributes:
        coords: ``[..., 2]`` float, ``(x, y)`` in heatmap pixels unless the function says
            otherwise, pixel centres at integers. ``[..., dim]`` for maps of one or three
            dimensions.
        scores: ``[...]`` float, the raw value of the map at the peak, unless the decoder or rule
            says otherwise. It is not clipped, and it is not a probability.
        status: ``[...]`` int8, a :class:`Status`.
        covariance: ``[..., 2, 2]`` (``[..., dim, dim]``) float, the covariance of the error of
            ``coords``, in pixels squared. It is infinite where it is unknown, and None if the
            decoder did not estimate it.

    Notes:
        Floats are float32, or float64 if the maps are float64 and x64 is enabled.

        An index selects keypoints. It may be a number, a slice or a mask, as in the example. It
        applies to the axes of ``scores`` and never reaches the last axes of a field, such as x
        and y. ``len`` is the length of the first of these axes.

        Keypoints are not an array: iterating over them, unpacking them, their truth value and
        ``np.asarray`` raise a TypeError. To join several results, use
        ``jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)``.

    Example:
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[8.5, 7.25], [0.0, 9.0]], size=(20, 16)))
        >>> keypoints
        Keypoints(coords float32[2,2], 1 REFINED, 1 BORDER, no covariance)
        >>> keypoints.coords.round(2).tolist(), keypoints.status.tolist()
        ([[8.5, 7.25], [0.0, 9.0]], [0, 3])
        >>> keypoints[keypoints.refined].coords.round(2).tolist()
        [[8.5, 7.25]]
        >>> len(keypoints), keypoints[1].scores.shape
        (2, ())

    References:
        Pytrees are explained in JAX's documentation: ``jax.tree.map`` applies to keypoints.
    """

    coords: jax.Array
    scores: jax.Array
    status: jax.Array
    covariance: jax.Array | None = None

    @property
    def refined(self) -> jax.Array:
        """``[...]`` bool: True where the status is ``REFINED``."""
        return self.status == Status.REFINED.value

    @property
    def found(self) -> jax.Array:
        """``[...]`` bool: True where the status is neither ``NO_PEAK`` nor ``NOT_FINITE``."""
        return (self.status != Status.NO_PEAK.value) & (self.status != Status.NOT_FINITE.value)

    def __len__(self) -> int:
        """The length of the first leading axis."""
        if not self.scores.shape:
            raise TypeError("keypoints have no length: this is a single keypoint")
        return self.scores.shape[0]

    def __getitem__(self, index: Any) -> Self:
        """The keypoints at an index of the leading axes."""
        index = _within(index, self.scores.shape)
        return jax.tree.map(lambda field: field[index], self)

    def __repr__(self) -> str:
        """Show the shape and how many keypoints have each status, if the values are known."""
        coords = _shown(self.coords)
        spread = "no covariance" if self.covariance is None else "covariance"
        return f"Keypoints(coords {coords}, {', '.join([*_counts(self.status), spread])})"

    def __iter__(self) -> NoReturn:
        """Raise a TypeError that names the fields."""
        raise TypeError(
            "keypoints cannot be iterated or unpacked: use keypoints.coords, or an index such as "
            "keypoints[0]"
        )

    def __bool__(self) -> NoReturn:
        """Raise a TypeError that names the fields."""
        raise TypeError(
            "keypoints have no truth value: use keypoints.refined, keypoints.found, "
            "keypoints.coords or len(keypoints)"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise a TypeError that names the fields."""
        raise TypeError(
            "keypoints are not an array: use keypoints.coords, or another of their fields"
        )


def _within(index: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """``index`` with an entry for each of the leading axes, so that it never reaches other axes.

    Raises:
        IndexError: ``index`` has too many entries, or an integer is out of bounds, which JAX would
            clip.
    """
    entries = [_of_list(entry) for entry in (index if isinstance(index, tuple) else (index,))]
    taken = [_axes_taken(entry) for entry in entries]
    dots = [n for n, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"an index may have one ellipsis, got {index!r}")
    left = len(shape) - sum(taken)
    if left < 0:
        raise IndexError(
            f"keypoints have the axes {shape}, got an index for {sum(taken)}: index a field for "
            "its own axes, as keypoints.coords[..., 0]"
        )
    at = dots[0] if dots else len(entries)
    rest = (slice(None),) * left
    full = (*entries[:at], *rest, *entries[at + len(dots) :])
    sides = iter(shape)
    for entry in full:
        here = [*itertools.islice(sides, _axes_taken(entry))]
        numbers = _whole_numbers(entry) if here else None
        if numbers is not None and ((numbers < -here[0]) | (numbers >= here[0])).any():
            raise IndexError(f"index {entry} is out of bounds for keypoints with the axes {shape}")
    return full


def _of_list(entry: Any) -> Any:
    """Turn a list into an array, also a list that holds traced numbers; return others unchanged."""
    if not isinstance(entry, list):
        return entry
    traced = any(isinstance(each, jax.core.Tracer) for each in entry)
    return jnp.asarray(entry) if traced else np.asarray(entry)


def _whole_numbers(entry: Any) -> np.ndarray | None:
    """The integers in an entry of an index; None if it has none or their values are not known."""
    numbers = None if isinstance(entry, slice) else known_values(entry)
    return numbers if numbers is not None and numbers.dtype.kind in "iu" else None


def _axes_taken(entry: Any) -> int:
    """How many axes an entry of an index takes."""
    if entry is None or entry is Ellipsis or isinstance(entry, bool | np.bool_):
        return 0
    return entry.ndim if getattr(entry, "dtype", None) == np.dtype(bool) else 1


def _shown(field: Any) -> str:
    """The dtype and shape of a field; the name of its type if it is not an array."""
    shape, dtype = getattr(field, "shape", None), getattr(field, "dtype", None)
    if shape is None or dtype is None:
        return type(field).__name__
    return f"{dtype}[{','.join(map(str, shape))}]"


def _counts(status: Any) -> list[str]:
    """How many keypoints have each status; empty if the values are not available on this host."""
    if isinstance(status, jax.Array):
        away = isinstance(status, jax.core.Tracer) or status.is_deleted()
        if away or not status.is_fully_addressable:
            return []
    elif not isinstance(status, np.ndarray | np.generic):
        return []
    found = zip(*np.unique(np.asarray(status), return_counts=True), strict=True)
    names = {reason.value: reason.name for reason in Status}
    return [f"{count} {names.get(code, code)}" for code, count in found]


def status_of(reasons: Mapping[Status, jax.Array]) -> jax.Array:
    """``[...]`` int8, the first reason that applies, in the order of ``Status``; else REFINED."""
    last, *others = sorted(reasons, reverse=True)
    # A product is used, because a choice between two constants fails on explicit meshes.
    status = reasons[last].astype(jnp.int8) * jnp.int8(last)
    for reason in others:
        status = jnp.where(reasons[reason], jnp.int8(reason), status)
    return status
