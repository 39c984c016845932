"""DARK, composed of the search for the peak, the window around it and the step."""

from __future__ import annotations

import functools

import jax
from jax.typing import ArrayLike

from dark_jax import rules
from dark_jax._codecs import dark_step
from dark_jax._codecs.dark_settings import DarkSettings, check_settings
from dark_jax._codecs.dark_step import Refined
from dark_jax._core import checks
from dark_jax._core.batching import of_each, redone_unless
from dark_jax._core.keypoints import Keypoints


@functools.partial(jax.jit, static_argnames=("settings", "axes"))
def decode_along(
    heatmaps: jax.Array, *, settings: DarkSettings, axes: tuple[int, ...]
) -> Keypoints:
    """As :func:`decode`, for arguments that are checked; ``axes`` count from 0."""

    def one(heatmap: jax.Array) -> Refined:
        if settings.rule.of_whole_map:
            return dark_step.refine_from_blurred(heatmap, settings)
        peak = dark_step.find_start(heatmap, settings.rule)
        return dark_step.refine_from_window(heatmap, peak, settings)

    found = of_each(one, heatmaps, axes)
    coords, status = found.coords, found.status
    if found.exact is not None:
        whole = functools.partial(dark_step.refine_in_float64, settings=settings)
        coords, status = redone_unless(found.exact, (coords, status), whole, heatmaps, axes)
    return Keypoints(coords=coords, scores=found.score, status=status, covariance=found.covariance)


def decode(
    heatmaps: ArrayLike,
    *,
    rule: rules.Rule = rules.GUARDED,
    kernel_size: int | None = None,
    blur_sigma: float | tuple[float, ...] | None = None,
    covariance: bool = False,
    axes: tuple[int, ...] = (-2, -1),
) -> Keypoints:
    """Find the sub-pixel keypoint of each heatmap with DARK.

    DARK finds the maximum of a map, blurs the map around it, takes the logarithm, and moves by
    one Newton step to the maximum of the second-order expansion. The default rule,
    ``rules.GUARDED``, takes the step only where it leads to a maximum nearby. Elsewhere it keeps
    the integer peak, and ``status`` says why. All other rules of :mod:`dark_jax.rules` return the
    coordinates of the published code that they are named after.

    Args:
        heatmaps: array of real numbers ``[..., H, W]``, such as ``[B, J, H, W]``. Other layouts
            are described by ``axes``. Apply ``jax.nn.sigmoid`` to logits first.
        rule: a :class:`dark_jax.rules.Rule`: one of ``dark_jax.rules``, whose ``help`` says which
            network needs which, or your own; static. 1-D maps accept ``GUARDED``, ``ARGMAX``,
            ``MMPOSE_SIMCC`` and ``MMPOSE_SIMCC_DARK``; volumes ``GUARDED`` and ``ARGMAX``.
        kernel_size: odd size of the blur in pixels, if the rule blurs; static. The default is
            that of the rule: 5 for ``GUARDED`` and 11 for most published rules. The coefficients
            are those of :func:`gaussian_blur`, except for ``HF_VITPOSE`` and ``SAPIENS2``.
        blur_sigma: blur with a true Gaussian of this sigma in pixels instead, cut off at three
            sigma. One number, or one for each axis, ``(x, y, ...)``; static.
        covariance: estimate the covariance of the coordinates; only for ``GUARDED`` and rules
            whose ``covariance`` is True; static. This takes longer than the decoding itself.
        axes: the axes of one map, in increasing order, ``(..., z, y, x)``; static. Use
            ``(-3, -2)`` for channels-last maps ``[B, H, W, J]``, ``(-1,)`` for 1-D maps, and
            ``(-3, -2, -1)`` for volumes ``[..., D, H, W]``.

    Returns:
        :class:`Keypoints` with the axes of ``heatmaps`` that are not in ``axes``, in their order:
        ``coords [..., dim]`` in heatmap pixels, ``scores [...]``, the maxima or what the rule
        makes of them, ``status [...]``, and
        ``covariance [..., dim, dim]`` or None.

    Notes:
        The default rule does not depend on the scale of the maps, as long as it is positive. A
        flat top, where neighbouring pixels share the maximum, counts as one peak: the default
        rule starts at its middle pixel, and published rules start at its first pixel.

        The status does not know whether a joint is there. Noise has peaks too, and some logits
        decode as ``REFINED`` up to 0.5 px off. A step is ``STEP_TOO_LONG`` if it is longer than
        1.5 pixels, the sigma of the blur, and the sigma of the blob (counted as at most 3
        pixels).

        The covariance assumes that the noise of the pixels is independent, and that the blob is
        Gaussian. It cannot detect an error that looks like a blob. It is infinite where the
        keypoint is not refined, where the blur reaches over an edge of the map, and where the
        blob is narrower than half a pixel. A kernel that is too narrow for the blob gives
        covariances that are too small.

        With rules that rescale to the old maximum (``DARKPOSE``, ``MMPOSE_DARK``, ``MMPOSE_UDP``,
        ``SAPIENS2``), some images need their whole maps in float64. That choice depends on the
        data; see ``help(dark_jax)``. ``MEGVII`` and ``UDP_POSE`` blur every map as a whole, which
        takes four to five times as long, and more than twice the memory of the maps.

        For rules without a Newton step, such as ``HRNET``, the status is ``BORDER`` where the
        rule leaves an axis unmoved at the edge of the map. Otherwise it is mostly ``REFINED``:
        the coordinate is all that the rule gives. ``STEP_TOO_LONG`` means that the centroid of
        ``SLEAP_INTEGRAL`` is outside its window, and ``NOT_CONCAVE`` that the rescaling of
        ``MEGVII`` has flipped the signs of the map, as in the original.

        Coordinates of finite maps are finite. If the map contains a NaN, they are the sentinel
        ``rule.missing``, or NaN for rules without one, such as ``GUARDED``. If the maximum is
        infinite, rules that rescale may return NaN.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers; ``rule`` is not a ``Rule``;
            ``kernel_size`` or ``axes`` are not integers; ``blur_sigma`` is not a number or is
            traced.
        ValueError: ``heatmaps`` lacks the axes, or its maps are empty or have more than 2^24
            pixels along an axis or 2^31 in all; ``axes`` are not one to three in increasing
            order, or the rule is not for maps of so many axes; ``kernel_size`` is even or below
            1; ``blur_sigma`` is not positive and finite, or not one number for each axis;
            ``kernel_size`` and ``blur_sigma`` are both given, or one is given although the rule
            does not blur; ``covariance`` is True for a rule that does not support it.

    Example:
        >>> import jax
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[20.25, 30.5], [24.0, 18.75]], size=(64, 48))
        >>> keypoints = jax.jit(dark_jax.decode)(heatmaps)
        >>> keypoints.coords.round(2).tolist()
        [[20.25, 30.5], [24.0, 18.75]]
        >>> keypoints.status.tolist() == [dark_jax.Status.REFINED] * 2
        True
        >>> hrnet = dark_jax.decode(heatmaps, rule=dark_jax.rules.HRNET)
        >>> hrnet.coords.tolist()
        [[20.25, 30.25], [24.0, 18.75]]

    References:
        Zhang et al., Distribution-Aware Coordinate Representation for Human Pose Estimation, CVPR
        2020, arXiv:1910.06278. :mod:`dark_jax.rules` names the source of each rule.
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    settings = check_settings(
        rule,
        dim=len(axes),
        kernel_size=kernel_size,
        blur_sigma=blur_sigma,
        covariance=covariance,
    )
    return decode_along(heatmaps, settings=settings, axes=axes)
