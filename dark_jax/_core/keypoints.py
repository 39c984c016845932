"""What a decoder returns."""

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
    """Why a keypoint is, or is not, refined; the first that applies wins.

    Attributes:
        REFINED: the sub-pixel step was taken.
        NOT_FINITE: the score, or a value in the window around the peak, is NaN, infinite or too
            large to be blurred. Coordinates are NaN only when the score is NaN.
        NO_PEAK: the maximum of the map is not above zero.
        BORDER: the peak lies so near an edge that its stencil leaves the map: within two
            pixels for most rules. Of a fit: it leaves the map.
        NOT_CONCAVE: the log map has no maximum here (its Hessian is not negative
            definite, or all around the peak is at the rule's floor, as in logits); no blob
            of positive height fits; or the middle of the blob under a flat top cannot be told,
            because the top meets the edge of the map or the end of the window, is hollow, or
            the step ends away from its middle.
        STEP_TOO_LONG: the step would leave the neighbourhood of the peak, or the blob.

    Unrefined coordinates are the integer peak, the middle of a flat top, or NaN with a NaN score.
    Under a published rule they are the rule's whatever the status, which says what the default rule
    would object to.

    Example:
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[8.5, 7.25], [0.0, 9.0]], size=(20, 16)))
        >>> [dark_jax.Status(code).name for code in keypoints.status.tolist()]
        ['REFINED', 'BORDER']
        >>> (keypoints.status == dark_jax.Status.REFINED).tolist()
        [True, False]

    References:
        The guards are ours; what published code does in each case is in :mod:`dark_jax.rules`.
    """

    REFINED = 0
    NOT_FINITE = 1
    NO_PEAK = 2
    BORDER = 3
    NOT_CONCAVE = 4
    STEP_TOO_LONG = 5


@_result
class Keypoints:
    """Decoded keypoints, one for each map: a frozen pytree that is built and read by name.

    Indexing works along the leading axes, those of ``scores``, as with ``keypoints[0]``, or with a
    mask, as in the example. It never reaches into the axes of a field, such as x and y. ``len`` is
    the length of the first of these axes. Keypoints are not an array: a loop, unpacking, a truth
    value and ``np.asarray`` raise a TypeError. Join the results of a loop by
    ``jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)``.

    Floating-point fields are float32, or float64 where the maps are.

    Attributes:
        coords: ``[..., 2]`` float, ``(x, y)`` in heatmap pixels, pixel centres
            at integers; ``[..., dim]`` for maps of one or three dimensions.
        scores: ``[...]`` float, the raw maximum of each map: not clipped, not
            a probability.
        status: ``[...]`` int8, a :class:`Status`.
        covariance: ``[..., 2, 2]`` (``[..., dim, dim]``) float, of the error of ``coords`` in
            pixels squared; infinite where it is unknown. None, the default, where it was not
            asked for.

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
        Pytrees are JAX's: what maps over arrays maps over keypoints.
    """

    coords: jax.Array
    scores: jax.Array
    status: jax.Array
    covariance: jax.Array | None = None

    @property
    def refined(self) -> jax.Array:
        """``[...]`` bool: the status is ``REFINED``."""
        return self.status == Status.REFINED.value

    @property
    def found(self) -> jax.Array:
        """``[...]`` bool: there is a keypoint, so the status is not ``NO_PEAK`` or ``NOT_FINITE``.

        Under a published rule the status is that of the default rule.
        """
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
        """Shape and counts by status; of values that are not here, the shape alone."""
        coords = _shown(self.coords)
        spread = "no covariance" if self.covariance is None else "covariance"
        return f"Keypoints(coords {coords}, {', '.join([*_counts(self.status), spread])})"

    def __iter__(self) -> NoReturn:
        """TypeError: what is meant is one of the fields."""
        raise TypeError(
            "keypoints cannot be iterated or unpacked: take keypoints.coords, or index them, as "
            "keypoints[0]"
        )

    def __bool__(self) -> NoReturn:
        """TypeError: what is meant is one of the fields."""
        raise TypeError(
            "keypoints have no truth value: take one of keypoints.refined, keypoints.found and "
            "keypoints.coords, or len(keypoints)"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """TypeError: what is meant is one of the fields."""
        raise TypeError(
            "keypoints are not an array: take keypoints.coords, or another of their fields"
        )


def _within(index: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """``index`` with an entry for each of the leading axes, so that it leaves all others alone.

    Raises:
        IndexError: it has too many, or an integer is out of bounds, which JAX would clip.
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
    """A list as an array, also one that holds traced numbers."""
    if not isinstance(entry, list):
        return entry
    traced = any(isinstance(each, jax.core.Tracer) for each in entry)
    return jnp.asarray(entry) if traced else np.asarray(entry)


def _whole_numbers(entry: Any) -> np.ndarray | None:
    """The integers in an entry of an index, where their values are here."""
    numbers = None if isinstance(entry, slice) else known_values(entry)
    return numbers if numbers is not None and numbers.dtype.kind in "iu" else None


def _axes_taken(entry: Any) -> int:
    """How many axes an entry of an index is for."""
    if entry is None or entry is Ellipsis or isinstance(entry, bool | np.bool_):
        return 0
    return entry.ndim if getattr(entry, "dtype", None) == np.dtype(bool) else 1


def _shown(field: Any) -> str:
    """Type and shape of a field, whatever it holds."""
    shape, dtype = getattr(field, "shape", None), getattr(field, "dtype", None)
    if shape is None or dtype is None:
        return type(field).__name__
    return f"{dtype}[{','.join(map(str, shape))}]"


def _counts(status: Any) -> list[str]:
    """How many keypoints have each status, where that costs no trace and no other host."""
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
    """``[...]`` int8: of the reasons that apply the one that takes precedence; else REFINED."""
    last, *others = sorted(reasons, reverse=True)
    # Computed rather than chosen: a choice between two constants fails on explicit meshes.
    status = reasons[last].astype(jnp.int8) * jnp.int8(last)
    for reason in others:
        status = jnp.where(reasons[reason], jnp.int8(reason), status)
    return status
