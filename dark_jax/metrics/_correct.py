"""How many keypoints are correct: PCK, PCKh, AUC."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import as_float
from dark_jax.metrics._compare import averaged_axes, checked, compare, distance, mean, measured

MPII_HEAD = 0.6


@functools.partial(jax.jit, static_argnames=("within", "axis"))
def _correct(
    coords: jax.Array,
    truth: jax.Array,
    visible: jax.Array,
    normalize: jax.Array,
    thresholds: jax.Array,
    *,
    within: Callable[[Any, Any], Any],
    axis: tuple[int, ...],
) -> jax.Array:
    """Return the mean over ``axis``, after that over ``thresholds [T]`` for each joint."""
    length, counted = measured(compare(coords, truth, visible), normalize)
    limits = jnp.expand_dims(thresholds.astype(length.dtype), range(length.ndim))
    correct = jnp.mean(within(length[..., None], limits), axis=-1, dtype=length.dtype)
    return mean(correct, counted, axis)


@jax.jit
def _head_size(boxes: jax.Array) -> jax.Array:
    boxes = as_float(boxes)
    return MPII_HEAD * distance(boxes[..., 2:])


def _numbers(name: str, value: ArrayLike | Sequence[float]) -> jax.Array | np.ndarray:
    """Return ``value`` as a row of one or more numbers, none of them NaN when not traced."""
    array = checks.real_array(name, value)
    if len(array.shape) != 1 or not array.shape[0]:
        shape = tuple(array.shape)
        raise ValueError(f"{name} must be a list of at least one number, got shape {shape}")
    return checks.not_nan(name, array, tuple(array.shape))


def pck(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    threshold: ArrayLike,
    normalize: ArrayLike = 1.0,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Compute the fraction of correct keypoints: those closer than a threshold.

    Args:
        coords: predictions, ``[..., J, dim]`` real numbers, ``dim`` from 1 to 3, in any pixels.
        truth: ``[..., J, dim]`` real numbers in the same pixels; leading axes broadcast.
        threshold: a number, in units of ``normalize``.
        normalize: the length of a unit in pixels, numbers that broadcast to ``[...]``, such as
            the larger side of the box.
        visible: numbers or booleans that broadcast to ``[..., J]``. Joints whose value is not
            above zero do not count. The default counts all.
        axis: the axes of ``[..., J]`` to average over, or None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``; from 0 to 1. float32 (float64 if a
        coordinate is).

    Notes:
        A distance equal to the threshold is wrong, as in mmpose and HRNet. The result is 0 if no
        joint counts. Joints of an instance whose ``normalize`` is not positive and finite do not
        count. To use a unit for each axis, divide both arrays by it first.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` does not hold integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``threshold`` is not a single number, or is NaN; ``normalize`` or ``visible`` does not
            broadcast; ``axis`` is not an axis of ``[..., J]``.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> metrics.pck([[10.0, 13.0], [20.0, 25.0]], truth, threshold=4.0).tolist()
        0.5

    References:
        Yang and Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, IEEE TPAMI
        35 (2013).
    """
    arrays, joints = checked(coords, truth, visible)
    return _correct(
        *arrays,
        checks.broadcastable("normalize", normalize, joints[:-1]),
        checks.not_nan("threshold", threshold, ())[None],
        within=operator.lt,
        axis=averaged_axes("axis", axis, len(joints)),
    )


def pckh(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    head_boxes: ArrayLike,
    threshold: ArrayLike,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Compute PCK in units of head sizes, as for MPII. PCKh@0.5 is ``threshold=0.5``.

    Args:
        coords: predictions, ``[..., J, 2]`` real numbers, ``(x, y)`` in any pixels.
        truth: ``[..., J, 2]`` real numbers in the same pixels; leading axes broadcast.
        head_boxes: ``[..., 4]`` real numbers, ``(x, y, w, h)`` in these pixels; leading axes
            broadcast. For the two corners of MPII's annotations, the box is
            ``(x1, y1, x2 - x1, y2 - y1)``.
        threshold: a number, in head sizes.
        visible: numbers or booleans that broadcast to ``[..., J]``. Joints whose value is not
            above zero do not count. The default counts all.
        axis: the axes of ``[..., J]`` to average over, or None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``; from 0 to 1. float32 (float64 if a
        coordinate is).

    Notes:
        The size of a head is 0.6 times the diagonal of its box. Unlike in :func:`pck`, a distance
        equal to the threshold is right, as in the evaluations of MPII and HRNet. The result is 0
        if no joint counts. Joints of an instance whose box has no diagonal do not count.

        MPII's total score leaves out pelvis and thorax: use ``axis=None`` and
        ``visible=visible * np.array(skeletons.MPII.scored)``.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` does not hold integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``head_boxes`` is not ``[..., 4]``; ``head_boxes`` or ``visible`` does not broadcast;
            ``threshold`` is not a single number, or is NaN; ``axis`` is not an axis of
            ``[..., J]``.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> found = [[10.0, 13.0], [20.0, 40.0]]
        >>> metrics.pckh(found, truth, head_boxes=[0, 0, 6, 8], threshold=0.5).tolist()
        0.5

    References:
        Andriluka et al., 2D Human Pose Estimation: New Benchmark and State of the Art Analysis,
        CVPR 2014.
    """
    arrays, joints = checked(coords, truth, visible, layout="[..., J, 2]")
    boxes = checks.coordinates("head_boxes", head_boxes, layout="[..., 4]")
    return _correct(
        *arrays,
        _head_size(checks.broadcastable("head_boxes", boxes, (*joints[:-1], 4))),
        checks.not_nan("threshold", threshold, ())[None],
        within=operator.le,
        axis=averaged_axes("axis", axis, len(joints)),
    )


def auc(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    thresholds: ArrayLike | tuple[float, ...],
    normalize: ArrayLike = 1.0,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Compute the area under the curve of PCK: the mean of :func:`pck` over many thresholds.

    Args:
        coords: predictions, ``[..., J, dim]`` real numbers, ``dim`` from 1 to 3, in any pixels.
        truth: ``[..., J, dim]`` real numbers in the same pixels; leading axes broadcast.
        thresholds: ``[T]`` real numbers, in units of ``normalize``. mmpose takes
            ``jnp.arange(20) / 20`` with a unit of 30 pixels.
        normalize: the length of a unit in pixels, numbers that broadcast to ``[...]``, as for
            :func:`pck`.
        visible: numbers or booleans that broadcast to ``[..., J]``. Joints whose value is not
            above zero do not count. The default counts all.
        axis: the axes of ``[..., J]`` to average over, or None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``; from 0 to 1, and 0 if no joint counts.
        float32 (float64 if a coordinate is).

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` does not hold integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``thresholds`` is not a list of at least one number; ``normalize`` or ``visible`` does
            not broadcast; ``axis`` is not an axis of ``[..., J]``.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> found = [[10.0, 13.0], [20.0, 25.0]]
        >>> metrics.auc(found, truth, thresholds=(2.0, 4.0, 6.0, 8.0)).tolist()
        0.625

    References:
        mmpose: keypoint_auc.
    """
    arrays, joints = checked(coords, truth, visible)
    return _correct(
        *arrays,
        checks.broadcastable("normalize", normalize, joints[:-1]),
        _numbers("thresholds", thresholds),
        within=operator.lt,
        axis=averaged_axes("axis", axis, len(joints)),
    )
