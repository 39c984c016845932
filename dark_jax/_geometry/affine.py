"""Invert affine maps in one to three dimensions, and apply them to coordinates and keypoints."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.keypoints import Keypoints
from dark_jax._core.numerics import as_float, inverse_power_of_two, together


def _below(matrices: jax.Array, ndim: int) -> jax.Array:
    """Return ``matrices`` with ``ndim`` axes; new axes of size 1 come just before the matrix."""
    first = matrices.ndim - 2
    return jnp.expand_dims(matrices, range(first, first + ndim - matrices.ndim))


class _Cofactors(NamedTuple):
    """The inverse is ``adjugate / determinant``; ``adjugate[row][column]`` is one entry."""

    adjugate: list[list[Any]]
    determinant: Any


def _cofactors(linear: Any) -> _Cofactors:
    """Return the cofactors of NumPy or JAX matrices ``[..., dim, dim]``."""
    dim = linear.shape[-1]
    entry = [[linear[..., row, column] for column in range(dim)] for row in range(dim)]

    def cofactor(row: int, column: int) -> Any:
        if dim == 1:
            return 1 + 0 * entry[0][0]
        if dim == 2:
            return entry[1 - row][1 - column] * (1 if row == column else -1)
        (a, b), (c, d) = (
            [entry[(row + down) % 3][(column + right) % 3] for right in (1, 2)] for down in (1, 2)
        )
        return a * d - b * c

    adjugate = [[cofactor(column, row) for column in range(dim)] for row in range(dim)]
    return _Cofactors(adjugate, sum(entry[0][n] * adjugate[n][0] for n in range(dim)))


@jax.jit
def _invert(affine: jax.Array) -> jax.Array:
    affine = as_float(affine)
    linear, offset = affine[..., :-1], affine[..., -1]
    # Without a scale, the product of three small voxel sizes would underflow to zero.
    scale = inverse_power_of_two(jnp.max(jnp.abs(linear), axis=(-2, -1)))
    entries, det = _cofactors(linear * scale[..., None, None])
    singular = det == 0
    rows = [jnp.stack(row, axis=-1) for row in entries]
    adjugate = jnp.stack(rows, axis=-2)
    moved = -jnp.sum(adjugate * offset[..., None, :], axis=-1, keepdims=True)
    inverse = jnp.concatenate([adjugate, moved], axis=-1)
    inverse = inverse / jnp.where(singular, 1, det)[..., None, None] * scale[..., None, None]
    return jnp.where(singular[..., None, None], jnp.inf, inverse)


def _affines(name: str, value: ArrayLike, dim: int) -> jax.Array | np.ndarray:
    """Return ``value`` as affine maps ``[..., dim, dim + 1]``, without a homogeneous last row.

    Raises:
        ValueError: ``value`` has another shape or, when not traced, another last row.
    """
    array = checks.real_array(name, value)
    if tuple(array.shape[-2:]) == (dim, dim + 1):
        return array
    if tuple(array.shape[-2:]) != (dim + 1, dim + 1):
        raise ValueError(
            f"{name} must have shape [..., {dim}, {dim + 1}] or, homogeneous, "
            f"[..., {dim + 1}, {dim + 1}] for coordinates [..., {dim}], got {tuple(array.shape)}"
        )
    last = np.eye(dim + 1)[-1]

    def good(known: np.ndarray) -> np.ndarray:
        return np.asarray((known == last).all(-1))

    row = ", ".join(f"{number:.0f}" for number in last)
    checks.require(name, array[..., -1, :], good, f"homogeneous, with the last row ({row})")
    return array[..., :-1, :]


def invert_affine(affine: ArrayLike) -> jax.Array:
    """Invert affine maps, for example to go from image pixels to heatmap pixels.

    Args:
        affine: ``[..., dim, dim + 1]`` real numbers, such as ``[..., 2, 3]``; or homogeneous,
            ``[..., dim + 1, dim + 1]`` with the last row ``(0, ..., 0, 1)``.

    Returns:
        The inverse, with the shape of ``affine``; float32 (float64 for float64 affines with
        x64).

    Notes:
        If a traced map is singular, the inverse is infinite, except for the last row of a
        homogeneous one.

    Raises:
        TypeError: ``affine`` does not hold real numbers.
        ValueError: ``affine`` has another shape or another last row, or is singular.

    Example:
        >>> import dark_jax
        >>> pull = dark_jax.invert_affine([[4.0, 0.0, 1.5], [0.0, 4.0, 1.5]])
        >>> dark_jax.apply_affine([41.5, 81.5], pull).tolist()
        [10.0, 20.0]

    References:
        Cramer's rule.
    """
    array = checks.real_array("affine", affine)
    *_, rows, columns = (0, 0, *array.shape)
    dim = columns - 1
    if not 1 <= dim <= 3 or rows not in (dim, dim + 1):
        raise ValueError(
            "affine must have shape [..., dim, dim + 1] or, homogeneous, [..., dim + 1, dim + 1], "
            f"dim from 1 to 3, got {tuple(array.shape)}"
        )
    matrices = _affines("affine", array, dim)

    def good(known: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # NaN is not singular, and stays NaN
            return np.asarray(_cofactors(known[..., :-1].astype(float)).determinant != 0)

    checks.require("affine", matrices, good, "invertible")
    inverse = _invert(matrices)
    if rows == dim:
        return inverse
    last = jnp.broadcast_to(jnp.eye(rows, dtype=inverse.dtype)[-1:], (*inverse.shape[:-2], 1, rows))
    return jnp.concatenate([inverse, last], axis=-2)


@jax.jit
def push(coords: jax.Array, affine: jax.Array) -> jax.Array:
    """:func:`apply_affine` without the checks."""
    coords, affine = together(coords, affine)
    affine = _below(affine, coords.ndim + 1)
    # Use sums of products: an accelerator may round those of a matmul to a shorter float.
    return jnp.sum(affine[..., :-1] * coords[..., None, :], axis=-1) + affine[..., -1]


def _check_leading(name: str, lead: tuple[int, ...], other: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless each size in ``lead`` is 1 or that of the same axis of ``shape``."""
    fits = len(lead) <= len(shape) and all(
        mine in (1, theirs) for mine, theirs in zip(lead, shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"the leading axes of {name} must match the first of {other}, {tuple(shape)}, or be 1, "
            f"got {tuple(lead)}"
        )


def _of_spacing(name: str, value: ArrayLike | tuple[float, ...], coords: Any) -> jax.Array:
    """Return the affine map ``[dim, dim + 1]`` of a spacing, in the precision of ``coords``."""
    dim = coords.shape[-1]
    array = checks.real_array(name, value)
    if tuple(array.shape) not in ((), (dim,)):
        axes = ("(x,)", "(x, y)", "(x, y, z)")[dim - 1]
        raise ValueError(
            f"{name} must be one number, or one for each axis, {axes}, got shape "
            f"{tuple(array.shape)}"
        )
    array = jnp.asarray(checks.positive_array(name, array, (dim,)))
    sides = jnp.broadcast_to(as_float(array), (dim,)).astype(as_float(jnp.asarray(coords)).dtype)
    return jnp.pad(jnp.diag(sides), [(0, 0), (0, 1)])


def _one_of(
    affine: ArrayLike | None, spacing: ArrayLike | tuple[float, ...] | None, coords: Any
) -> jax.Array | np.ndarray:
    """Return ``affine`` or ``spacing`` as maps ``[..., dim, dim + 1]``; exactly one is given."""
    found = None if affine is None else _affines("affine", affine, coords.shape[-1])
    scaled = None if spacing is None else _of_spacing("spacing", spacing, coords)
    if found is not None and scaled is not None:
        raise ValueError("affine and spacing must not both be given: an affine has its own scale")
    if (chosen := scaled if found is None else found) is None:
        raise ValueError("affine or spacing must be given, got neither")
    return chosen


def apply_affine(
    coords: ArrayLike,
    affine: ArrayLike | None = None,
    *,
    spacing: ArrayLike | tuple[float, ...] | None = None,
) -> jax.Array:
    """Map coordinates through affine maps, such as those of :func:`box_to_affine`.

    Args:
        coords: ``[..., dim]`` real numbers, ``(x, y)``, ``(x,)`` or ``(x, y, z)``, in the pixels
            that ``affine`` starts from.
        affine: ``[..., dim, dim + 1]`` real numbers, such as ``[..., 2, 3]``; or homogeneous,
            ``[..., dim + 1, dim + 1]`` with the last row ``(0, ..., 0, 1)``. Its leading axes are
            the first axes of ``coords``, or 1: one affine ``[2, 3]`` for all coordinates, or
            ``[B, 2, 3]`` for ``coords [B, J, 2]``.
        spacing: instead of ``affine``, the size of a pixel or voxel in your unit: one positive
            number, or one for each axis, ``(x, y, z)``; may be traced. The coordinates are
            multiplied by it, so the centre of the first pixel stays at 0.

    Returns:
        The mapped coordinates, with the shape of ``coords``; float32 (float64 if an argument is).

    Notes:
        x belongs to the last axis of an array, and z to the first axis of a volume. The affines
        of nibabel and NIfTI expect indices ``(i, j, k)`` of the first, second and third axis of
        their array. So decode the transposed array, whose last axis is that of i. Or reverse
        the coordinates first, with ``coords[..., ::-1]``.

    Raises:
        TypeError: an array does not hold real numbers.
        ValueError: ``coords`` is not ``[..., dim]``, or ``affine`` is for another dimension; the
            last row of ``affine`` is not ``(0, ..., 0, 1)``; its leading axes are not the first
            axes of ``coords``; ``spacing`` is not one or ``dim`` positive, finite numbers; both
            ``affine`` and ``spacing`` are given, or neither.

    Example:
        >>> import dark_jax
        >>> affine = [[[4.0, 0.0, 100.0], [0.0, 4.0, 50.0]], [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]]
        >>> dark_jax.apply_affine([[[10.0, 20.0]], [[10.0, 20.0]]], affine).tolist()
        [[[140.0, 130.0]], [[20.0, 40.0]]]
        >>> dark_jax.apply_affine([4.0, 20.0, 8.0], spacing=(0.5, 0.5, 2.0)).tolist()  # in mm
        [2.0, 10.0, 16.0]

    References:
        The order of the axes is that of images, boxes and joints in :func:`decode`.
    """
    coords = checks.coordinates("coords", coords, layout="[..., dim]")
    affine = _one_of(affine, spacing, coords)
    _check_leading("affine", affine.shape[:-2], "coords", coords.shape[:-1])
    return push(coords, affine)


@jax.jit
def _push_covariance(covariance: jax.Array, affine: jax.Array) -> jax.Array:
    covariance, affine = together(covariance, affine)
    jacobian = _below(affine[..., :-1], covariance.ndim)
    unknown = jnp.any(jnp.isinf(covariance), axis=(-2, -1), keepdims=True)
    known = jnp.where(unknown, 0, covariance)
    half = jnp.matmul(jacobian, known, precision=lax.Precision.HIGHEST)
    pushed = jnp.matmul(half, jnp.matrix_transpose(jacobian), precision=lax.Precision.HIGHEST)
    return jnp.where(unknown, jnp.inf, pushed)


def to_image(
    keypoints: Keypoints,
    affine: ArrayLike | None = None,
    *,
    spacing: ArrayLike | tuple[float, ...] | None = None,
) -> Keypoints:
    """Map keypoints from heatmap pixels to image pixels, with their covariance.

    Args:
        keypoints: :class:`Keypoints` of a decoder, ``coords [..., dim]`` of one to three
            dimensions.
        affine: ``[..., dim, dim + 1]`` real numbers, such as ``[..., 2, 3]`` of
            :func:`box_to_affine`; or homogeneous, as for :func:`apply_affine`. Its leading axes
            are the first axes of the scores, or 1: ``[B, 2, 3]`` for keypoints ``[B, J]``.
        spacing: instead of ``affine``, the size of a pixel or voxel, as for
            :func:`apply_affine`.

    Returns:
        :class:`Keypoints` in image pixels, or in the unit of ``spacing``.

    Notes:
        Scores and status do not change. A covariance with an infinite value becomes infinite in
        all values, and a covariance of None stays None. The sentinels of published rules are
        mapped like all coordinates: use ``status`` to recognise them. The notes of
        :func:`apply_affine` explain the axes of a volume.

    Raises:
        TypeError: ``keypoints`` are not :class:`Keypoints`; ``affine`` does not hold real
            numbers.
        ValueError: ``keypoints.coords`` is not ``[..., dim]``, or ``affine`` is for another
            dimension; the last row of ``affine`` is not ``(0, ..., 0, 1)``; its leading axes are
            not the first axes of the scores; ``spacing`` is not one or ``dim`` positive, finite
            numbers; both ``affine`` and ``spacing`` are given, or neither.

    Example:
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[[10.25, 20.5]]], size=(64, 48)))
        >>> boxes, mmpose = [[100, 50, 192, 256]], dark_jax.conventions.MMPOSE
        >>> affine = dark_jax.box_to_affine(boxes, map_size=(64, 48), convention=mmpose, padding=1)
        >>> dark_jax.to_image(keypoints, affine).coords.round(1).tolist()
        [[[141.0, 132.0]]]

    References:
        The covariance of a linear map is J C J^T.
    """
    checks.keypoints("keypoints", keypoints, traced=True, cure="; apply_affine is for arrays")
    coords = checks.coordinates("keypoints.coords", keypoints.coords, layout="[..., dim]")
    affine = _one_of(affine, spacing, coords)
    _check_leading("affine", affine.shape[:-2], "the keypoints", coords.shape[:-1])
    spread = keypoints.covariance
    return Keypoints(
        coords=push(coords, affine),
        scores=keypoints.scores,
        status=keypoints.status,
        covariance=None if spread is None else _push_covariance(spread, affine),
    )
