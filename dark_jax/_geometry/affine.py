"""Affine maps of the plane: coordinates and keypoints through them, and their inverses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.keypoints import Keypoints
from dark_jax._core.numerics import as_float, together


def _below(matrices: jax.Array, ndim: int) -> jax.Array:
    """``matrices`` with ``ndim`` axes, those before the matrix first."""
    first = matrices.ndim - 2
    return jnp.expand_dims(matrices, range(first, first + ndim - matrices.ndim))


@jax.jit
def _invert(affine: jax.Array) -> jax.Array:
    affine = as_float(affine)
    (a, b, x), (c, d, y) = ([affine[..., row, column] for column in range(3)] for row in range(2))
    det = a * d - b * c
    singular = det == 0
    det = jnp.where(singular, 1, det)
    rows = (
        jnp.stack([d, -b, b * y - d * x], axis=-1),
        jnp.stack([-c, a, c * x - a * y], axis=-1),
    )
    inverse = jnp.stack(rows, axis=-2) / det[..., None, None]
    return jnp.where(singular[..., None, None], jnp.inf, inverse)


def _invertible(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """``value`` as affine maps, each with an inverse when not traced."""
    array = checks.affines(name, value)

    def good(known: np.ndarray) -> np.ndarray:
        (a, b), (c, d) = np.moveaxis(known[..., :2].astype(float), (-2, -1), (0, 1))
        with np.errstate(invalid="ignore"):  # NaN is not singular, and comes out as it went in
            return np.asarray(a * d - b * c != 0)

    checks.require(name, array, good, "invertible")
    return array


def invert_affine(affine: ArrayLike) -> jax.Array:
    """The inverse of affine maps: image pixels to heatmap pixels, if they pushed those.

    Args:
        affine: ``[..., 2, 3]`` real.

    Returns:
        ``[..., 2, 3]``, float32 (float64 for float64 input under x64); infinite where a traced
        map is singular.

    Raises:
        TypeError: ``affine`` does not hold real numbers.
        ValueError: ``affine`` is not ``[..., 2, 3]``, or known now singular.

    Example:
        >>> import dark_jax
        >>> pull = dark_jax.invert_affine([[4.0, 0.0, 1.5], [0.0, 4.0, 1.5]])
        >>> dark_jax.apply_affine([41.5, 81.5], pull).tolist()
        [10.0, 20.0]

    References:
        Cramer's rule.
    """
    return _invert(_invertible("affine", affine))


@jax.jit
def push(coords: jax.Array, affine: jax.Array) -> jax.Array:
    """:func:`apply_affine` without the checks."""
    coords, affine = together(coords, affine)
    affine = _below(affine, coords.ndim + 1)
    # Sums of products, not a matmul: no accelerator rounds them to a shorter float.
    return jnp.sum(affine[..., :2] * coords[..., None, :], axis=-1) + affine[..., 2]


def _check_leading(name: str, lead: tuple[int, ...], other: str, shape: tuple[int, ...]) -> None:
    """``lead`` are the first axes of ``shape``, or 1; else ValueError."""
    fits = len(lead) <= len(shape) and all(
        mine in (1, theirs) for mine, theirs in zip(lead, shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"the leading axes of {name} must be the first of {other}, {tuple(shape)}, or 1, "
            f"got {tuple(lead)}"
        )


def apply_affine(coords: ArrayLike, affine: ArrayLike) -> jax.Array:
    """Coordinates pushed through affine maps: heatmap -> image with :func:`box_to_affine`'s.

    The leading axes of ``affine`` are the first of ``coords``: an affine ``[B, 2, 3]`` serves
    all the joints of ``coords [B, J, 2]``, one of ``[2, 3]`` everything.

    Args:
        coords: ``[..., 2]`` real, ``(x, y)`` in the pixels that ``affine`` pushes.
        affine: ``[..., 2, 3]`` real, its leading axes the first of ``coords``'s, or 1.

    Returns:
        ``[..., 2]``, ``(x, y)``, as ``coords``; float32 (float64 if either is).

    Raises:
        TypeError: an array does not hold real numbers.
        ValueError: ``coords`` is not ``[..., 2]`` or ``affine`` not ``[..., 2, 3]``; the leading
            axes of ``affine`` are not the first of ``coords``.

    Example:
        >>> import dark_jax
        >>> affine = [[[4.0, 0.0, 100.0], [0.0, 4.0, 50.0]], [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]]
        >>> dark_jax.apply_affine([[[10.0, 20.0]], [[10.0, 20.0]]], affine).tolist()
        [[[140.0, 130.0]], [[20.0, 40.0]]]

    References:
        The order of axes is that of images, boxes and joints in :func:`decode`.
    """
    coords = checks.coordinates("coords", coords, layout="[..., 2]")
    affine = checks.affines("affine", affine)
    _check_leading("affine", affine.shape[:-2], "coords", coords.shape[:-1])
    return push(coords, affine)


@jax.jit
def _push_covariance(covariance: jax.Array, affine: jax.Array) -> jax.Array:
    covariance, affine = together(covariance, affine)
    jacobian = _below(affine[..., :2], covariance.ndim)
    unknown = jnp.any(jnp.isinf(covariance), axis=(-2, -1), keepdims=True)
    known = jnp.where(unknown, 0, covariance)
    half = jnp.matmul(jacobian, known, precision=lax.Precision.HIGHEST)
    pushed = jnp.matmul(half, jnp.matrix_transpose(jacobian), precision=lax.Precision.HIGHEST)
    return jnp.where(unknown, jnp.inf, pushed)


def to_image(keypoints: Keypoints, affine: ArrayLike) -> Keypoints:
    """Keypoints of heatmaps as keypoints of the image.

    Coordinates are pushed as by :func:`apply_affine`; covariances are carried along, from
    heatmap pixels squared to image pixels squared; scores and status stay. The sentinels of
    published rules are pushed like any coordinate: ``status`` tells them.

    Args:
        keypoints: a decoder's :class:`Keypoints`, of two-dimensional maps: ``coords [..., 2]``.
        affine: ``[..., 2, 3]`` real, of :func:`box_to_affine`; its leading axes the first of the
            scores', or 1: ``[B, 2, 3]`` for keypoints ``[B, J]``.

    Returns:
        :class:`Keypoints` in image pixels. A covariance with an infinite value is infinite.

    Raises:
        TypeError: ``keypoints`` are no :class:`Keypoints`; ``affine`` does not hold real numbers.
        ValueError: ``keypoints.coords`` are not ``[..., 2]`` or ``affine`` not ``[..., 2, 3]``;
            the leading axes of ``affine`` are not the first of the scores'.

    Example:
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[[10.25, 20.5]]], size=(64, 48)))
        >>> affine = dark_jax.box_to_affine(
        ...     [[100, 50, 192, 256]], size=(64, 48), convention=dark_jax.image.MMPOSE, padding=1
        ... )
        >>> dark_jax.to_image(keypoints, affine).coords.round(1).tolist()
        [[[141.0, 132.0]]]

    References:
        The covariance is that of a linear map, J C J^T.
    """
    checks.keypoints("keypoints", keypoints, traced=True, cure="; apply_affine is for arrays")
    coords = checks.coordinates("keypoints.coords", keypoints.coords, layout="[..., 2]")
    affine = checks.affines("affine", affine)
    _check_leading("affine", affine.shape[:-2], "the keypoints", coords.shape[:-1])
    return Keypoints(
        coords=push(coords, affine),
        scores=keypoints.scores,
        status=keypoints.status,
        covariance=_push_covariance(keypoints.covariance, affine),
    )
