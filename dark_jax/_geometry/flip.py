"""The flip test: heatmaps of mirrored images, mirrored back and merged."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.joints import mirrored_pairs
from dark_jax._core.numerics import together


@functools.partial(jax.jit, static_argnames=("pairs", "shift", "joint_axis", "x_axis"))
def _flip(
    heatmaps: jax.Array,
    *,
    pairs: tuple[tuple[int, int], ...],
    shift: int,
    joint_axis: int,
    x_axis: int,
) -> jax.Array:
    partner = np.arange(heatmaps.shape[joint_axis])
    for left, right in pairs:
        partner[[left, right]] = right, left
    flipped = jnp.flip(jnp.take(heatmaps, partner, axis=joint_axis), axis=x_axis)
    width = flipped.shape[x_axis]
    kept = lax.slice_in_dim(flipped, 0, shift, axis=x_axis)
    moved = lax.slice_in_dim(flipped, 0, width - shift, axis=x_axis)
    return jnp.concatenate([kept, moved], axis=x_axis)


def _between(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` as an integer from ``low`` to ``high``."""
    expected = f"an integer from {low} to {high}"
    number = checks.integer(name, value, expected)
    if not low <= number <= high:
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def flip_heatmaps(
    heatmaps: ArrayLike,
    pairs: Sequence[tuple[int, int]],
    *,
    shift: int,
    joint_axis: int = -3,
    axes: tuple[int, ...] = (-2, -1),
) -> jax.Array:
    """Mirror the heatmaps of mirrored images back, and exchange left and right joints.

    Args:
        heatmaps: ``[..., J, H, W]``, or laid out as ``joint_axis`` and ``axes`` describe; any
            type of real numbers. These are the network's heatmaps of the images mirrored along x.
        pairs: joints that a mirror exchanges, ``((left, right), ...)``, such as
            ``skeletons.COCO.pairs``; static.
        shift: move the maps by so many pixels towards larger x, at least 0; static. There is no
            default: see the notes.
        joint_axis: the axis of the joints; static.
        axes: the axes of one map, in increasing order, ``(..., y, x)``, as for :func:`decode`;
            static. For channels-last ``[B, H, W, J]``, use ``axes=(-3, -2)`` and
            ``joint_axis=-1``.

    Returns:
        The mirrored heatmaps, with the shape of ``heatmaps`` and the same type (float32 for
        float64 without x64).

    Notes:
        Use ``shift=1`` for checkpoints of ``HRNET``, ``MMPOSE`` and ``SLEAP``, and ``shift=0``
        for ``DARKPOSE``, ``UDP``, ``HALF_PIXEL``, ``DEEPLABCUT`` and ``FAN``. The wrong one moves
        merged peaks by up to half a pixel.

        The reason is that ``HRNET``, ``MMPOSE`` and ``SLEAP`` map pixel i to ``stride i``. So
        their mirrored-back map is ``1 - 1 / stride`` pixels too far left, and ``1 / stride``
        pixels too far right after ``shift=1``. With ``shift=0``, that of ``DEEPLABCUT`` is
        ``1 / stride`` pixels too far right, and the others have no error. The first ``shift``
        columns are not moved, as in HRNet.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers; ``pairs``, ``shift``, ``joint_axis``
            or ``axes`` do not hold integers.
        ValueError: ``heatmaps`` lacks the axes or its maps are empty; ``joint_axis`` is one of
            ``axes``; a joint of ``pairs`` is not in the heatmaps, or occurs twice; ``shift`` is
            negative or not less than the width; ``axes`` are not one to three in increasing
            order.

    Example:
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[10.0, 8.0], [19.0, 15.0]], size=(24, 30))
        >>> flipped = dark_jax.flip_heatmaps(heatmaps, [(0, 1)], shift=0)
        >>> dark_jax.decode(flipped).coords.round(2).tolist()
        [[10.0, 15.0], [19.0, 8.0]]

    References:
        ``flip_back`` and ``SHIFT_HEATMAP`` of HRNet (Sun et al., CVPR 2019, arXiv:1902.09212).
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    joint = checks.other_axis("joint_axis", joint_axis, len(heatmaps.shape), axes)
    return _flip(
        heatmaps,
        pairs=mirrored_pairs("pairs", pairs, heatmaps.shape[joint]),
        shift=_between("shift", shift, 0, heatmaps.shape[axes[-1]] - 1),
        joint_axis=joint,
        x_axis=axes[-1],
    )


@jax.jit
def _merge(heatmaps: jax.Array, flipped: jax.Array) -> jax.Array:
    heatmaps, flipped = together(heatmaps, flipped)
    return 0.5 * heatmaps + 0.5 * flipped


def merge_flipped(heatmaps: ArrayLike, flipped: ArrayLike) -> jax.Array:
    """Average the heatmaps of images and the heatmaps of their mirror images.

    Args:
        heatmaps: real numbers of any shape, the network's heatmaps of the images.
        flipped: real numbers of the same shape, from :func:`flip_heatmaps`.

    Returns:
        The mean, of the same shape; float32 (float64 if either is).

    Raises:
        TypeError: an array does not hold real numbers.
        ValueError: the shapes differ.

    Example:
        >>> import dark_jax
        >>> right = dark_jax.encode([[6.0, 4.0]], size=(9, 11), sigma=1.0)
        >>> mirrored = dark_jax.encode([[4.0, 4.0]], size=(9, 11), sigma=1.0)
        >>> flipped = dark_jax.flip_heatmaps(mirrored, (), shift=0)
        >>> merged = dark_jax.merge_flipped(right, flipped)
        >>> dark_jax.decode(merged).coords.round(2).tolist()
        [[6.0, 4.0]]

    References:
        The flip test of HRNet (Sun et al., CVPR 2019, arXiv:1902.09212).
    """
    heatmaps = checks.real_array("heatmaps", heatmaps)
    flipped = checks.real_array("flipped", flipped)
    if flipped.shape != heatmaps.shape:
        raise ValueError(
            f"flipped must have the shape of heatmaps, {tuple(heatmaps.shape)}, "
            f"got {tuple(flipped.shape)}"
        )
    return _merge(heatmaps, flipped)
