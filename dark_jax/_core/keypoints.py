"""What a decoder returns."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeVar, dataclass_transform

import chex
import jax
import jax.numpy as jnp

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
    """Decoded keypoints, one per map; a pytree, built and read by name.

    All but the status are float32, or float64 where the maps are.

    Attributes:
        coords: ``[..., 2]`` float, ``(x, y)`` in heatmap pixels, pixel centres
            at integers; ``[..., dim]`` for maps of one or three dimensions.
        scores: ``[...]`` float, the raw maximum of each map: not clipped, not
            a probability.
        status: ``[...]`` int8, a :class:`Status`.
        covariance: ``[..., 2, 2]`` (``[..., dim, dim]``) float, of the error of ``coords`` in
            pixels squared; infinite where the decoder does not know it.

    Example:
        >>> import jax
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[8.5, 7.25], [0.0, 9.0]], size=(20, 16)))
        >>> keypoints.coords.round(2).tolist(), keypoints.status.tolist()
        ([[8.5, 7.25], [0.0, 9.0]], [0, 3])
        >>> jax.tree.map(lambda leaf: leaf[0], keypoints).coords.round(2).tolist()
        [8.5, 7.25]

    References:
        Pytrees are JAX's: what maps over arrays maps over keypoints.
    """

    coords: jax.Array
    scores: jax.Array
    status: jax.Array
    covariance: jax.Array


def status_of(reasons: Mapping[Status, jax.Array]) -> jax.Array:
    """``[...]`` int8: of the reasons that apply the one that takes precedence; else REFINED."""
    last, *others = sorted(reasons, reverse=True)
    # Computed rather than chosen: a choice between two constants fails on explicit meshes.
    status = reasons[last].astype(jnp.int8) * jnp.int8(last)
    for reason in others:
        status = jnp.where(reasons[reason], jnp.int8(reason), status)
    return status


def unknown_covariance(coords: jax.Array, status: jax.Array) -> jax.Array:
    """Infinite, for coordinates ``[..., dim]`` with a status ``[...]``."""
    # Computed from the status, never negative, so that it is sharded as the rest is.
    infinite = jnp.inf * (status >= 0).astype(coords.dtype)
    return jnp.broadcast_to(infinite[..., None, None], (*coords.shape, coords.shape[-1]))
