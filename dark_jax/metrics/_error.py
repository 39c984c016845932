"""The distance of keypoints from the truth: EPE, NME."""

from __future__ import annotations

import functools

import jax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax.metrics._compare import averaged_axes, checked, compare, mean, measured


@functools.partial(jax.jit, static_argnames=("axis",))
def _error(
    coords: jax.Array,
    truth: jax.Array,
    visible: jax.Array,
    normalize: jax.Array,
    *,
    axis: tuple[int, ...],
) -> jax.Array:
    return mean(*measured(compare(coords, truth, visible), normalize), axis)


def epe(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Compute the end-point error: the mean distance in pixels.

    Args:
        coords: predictions, ``[..., J, dim]`` real numbers, ``dim`` from 1 to 3, in any pixels.
        truth: ``[..., J, dim]`` real numbers in the same pixels; leading axes broadcast.
        visible: numbers or booleans that broadcast to ``[..., J]``. Joints whose value is not
            above zero do not count. The default counts all.
        axis: the axes of ``[..., J]`` to average over, or None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``; in pixels, and 0 if no joint counts.
        float32 (float64 if a coordinate is).

    Notes:
        The gradient at distance zero is zero, so this can be a loss.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` does not hold integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``visible`` does not broadcast; ``axis`` is not an axis of ``[..., J]``.

    Example:
        >>> from dark_jax import metrics
        >>> metrics.epe([[3.0, 4.0], [20.0, 20.0]], [[0.0, 0.0], [20.0, 20.0]]).tolist()
        2.5

    References:
        mmpose: keypoint_epe.
    """
    return nme(coords, truth, normalize=1.0, visible=visible, axis=axis)


def nme(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    normalize: ArrayLike,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Compute the normalised mean error: the mean distance in a unit of each instance.

    Args:
        coords: predictions, ``[..., J, dim]`` real numbers, ``dim`` from 1 to 3, in any pixels.
        truth: ``[..., J, dim]`` real numbers in the same pixels; leading axes broadcast.
        normalize: the length of a unit in pixels, numbers that broadcast to ``[...]``, such as
            the distance between the eyes.
        visible: numbers or booleans that broadcast to ``[..., J]``. Joints whose value is not
            above zero do not count. The default counts all.
        axis: the axes of ``[..., J]`` to average over, or None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``; in units of ``normalize``, and 0 if no
        joint counts. float32 (float64 if a coordinate is).

    Notes:
        Joints of an instance whose ``normalize`` is not positive and finite do not count. The
        gradient at distance zero is zero, so this can be a loss.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` does not hold integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``normalize`` or ``visible`` does not broadcast; ``axis`` is not an axis of
            ``[..., J]``.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[0.0, 0.0], [20.0, 20.0]]
        >>> metrics.nme([[3.0, 4.0], [20.0, 20.0]], truth, normalize=10.0).tolist()
        0.25

    References:
        mmpose: keypoint_nme.
    """
    arrays, joints = checked(coords, truth, visible)
    return _error(
        *arrays,
        checks.broadcastable("normalize", normalize, joints[:-1]),
        axis=averaged_axes("axis", axis, len(joints)),
    )
