"""Peak, window, step: composition only."""

from __future__ import annotations

import functools

import jax
from jax.typing import ArrayLike

from dark_jax import rules
from dark_jax._codecs import dark_step
from dark_jax._codecs.dark_step import DarkSettings, Refined
from dark_jax._core import checks
from dark_jax._core.batching import of_each, redone_unless
from dark_jax._core.keypoints import Keypoints


@functools.partial(jax.jit, static_argnames=("settings", "axes"))
def decode_along(
    heatmaps: jax.Array, *, settings: DarkSettings, axes: tuple[int, ...]
) -> Keypoints:
    """:func:`decode` with checked arguments, ``axes`` counted from 0."""

    def one(heatmap: jax.Array) -> tuple[Refined, jax.Array]:
        peak = dark_step.find_start(heatmap, settings.rule)
        return dark_step.refine_from_window(heatmap, peak, settings), peak.score

    found, scores = of_each(one, heatmaps, axes)
    coords, status = found.coords, found.status
    if found.exact is not None:
        whole = functools.partial(dark_step.refine_from_map, settings=settings)
        coords, status = redone_unless(found.exact, (coords, status), whole, heatmaps, axes)
    return Keypoints(coords=coords, scores=scores, status=status, covariance=found.covariance)


def decode(
    heatmaps: ArrayLike,
    *,
    rule: rules.Rule = rules.GUARDED,
    kernel_size: int | None = None,
    blur_sigma: float | tuple[float, ...] | None = None,
    covariance: bool = False,
    axes: tuple[int, ...] = (-2, -1),
) -> Keypoints:
    """Sub-pixel keypoints of heatmaps by DARK: guarded, or exactly as published.

    The peak of each map is its maximum; of a flat top, whose pixels tie and touch, the middle one.
    Around it the map is blurred, logged, and one Newton step taken to the maximum of its
    second-order expansion. The default rule, ``rules.GUARDED``, does so where that is well posed;
    elsewhere the integer peak stays and ``status`` says why. It is scale-free: the maps may be of
    any positive scale. Any other rule of :mod:`dark_jax.rules` gives the coordinates of the code it
    is named after, sentinels included, and starts at the first of tied pixels. Composes under
    ``jit``, ``vmap``, ``grad`` and sharding.

    ``DARKPOSE``, ``SAPIENS2`` and mmpose's rules rescale the blurred map and then clamp it.
    Where that clamp may bite, an image is computed once more from its whole maps, in float64.
    That choice is made from the data: under a ``vmap`` of yours both branches run; on a
    batch sharded over an automatic mesh it costs collectives, and an explicit mesh refuses
    it. Use these rules inside ``jax.shard_map`` there.

    Args:
        heatmaps: JAX or NumPy array of real numbers, ``[..., H, W]``: ``[B, J, H, W]`` for ``B``
            images with ``J`` joints, say; or laid out as ``axes`` say. Computed in float32
            (float64 for float64 input under x64). Logits first go through ``jax.nn.sigmoid``: raw
            ones can be ``REFINED`` and 0.3 px off.
        rule: a :class:`dark_jax.rules.Rule`: ``GUARDED``, ``DARKPOSE``, ``MMPOSE_DARK``,
            ``MMPOSE_UDP``, ``VITPOSE``, ``HF_VITPOSE``, ``SAPIENS2``, ``HRNET`` or one of your
            own; static. Rows have ``GUARDED`` and ``MMPOSE_SIMCC_DARK``, volumes ``GUARDED`` alone.
        kernel_size: odd size in pixels of the blur, with the coefficients of the rule
            (OpenCV's, as for :func:`gaussian_blur`, except ``HF_VITPOSE`` and ``SAPIENS2``);
            static. The rule's own, 11, if neither this nor ``blur_sigma`` is given.
        blur_sigma: blur with a true Gaussian of this many pixels, cut at three times that;
            one number, or one an axis, ``(x, y, ...)``; static.
        covariance: estimate it, of ``GUARDED`` alone; static. It takes longer than the
            decoding.
        axes: the axes of a map in increasing order, ``(..., z, y, x)``; static.
            ``(-3, -2)`` for channels-last ``[B, H, W, J]``, ``(-1,)`` for one dimension,
            ``(-3, -2, -1)`` for volumes ``[..., D, H, W]``.

    Returns:
        :class:`Keypoints`, their axes the other axes of ``heatmaps`` in their order:
        ``coords [..., dim]``, ``(x, y)`` (``(x,)``, ``(x, y, z)``) in heatmap pixels, centres at
        integers (:func:`to_image` makes them image pixels); ``scores [...]``, the raw maxima;
        both float32 (float64 for float64 input under x64).
        ``status [...]``, int8, a :class:`Status`: 0 ``REFINED``; or the first that applies of
        1 ``NOT_FINITE`` (score or pixels around it), 2 ``NO_PEAK`` (no value above zero),
        3 ``BORDER`` (the step would read outside the map), 4 ``NOT_CONCAVE`` (no maximum there, or
        a flat top whose middle cannot be told) and 5 ``STEP_TOO_LONG``: longer than 1.5 pixels,
        than the blur's sigma, and than the blob's sigma or 3 pixels. Under a published
        rule the coordinates are the rule's, and ``status`` says what ``GUARDED`` would object to.
        ``covariance [..., dim, dim]``, None where it is not asked for, of their error in pixels
        squared if what a Gaussian of about this shape leaves over around the peak is independent
        noise; infinite where nothing was refined, where the blur reaches over an edge, which
        biases, and where the blob is narrower than half a pixel.
        What it cannot know of is an error that looks like a blob. Coordinates are NaN only
        where the map holds a NaN (``GUARDED``) or its maximum is infinite (rules that rescale).

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers; ``rule`` is no ``Rule``;
            ``kernel_size`` or ``axes`` are no integers; ``blur_sigma`` is no concrete number.
        ValueError: ``heatmaps`` lacks the axes or has an empty map; ``axes`` are not one to
            three, in increasing order, or not what ``rule`` decodes; a map has an axis of more
            than 2^24 pixels, or 2^31 pixels in all; ``kernel_size``
            is even or below 1; ``blur_sigma`` is not positive and finite, or has not one number
            an axis; both are given; the rule does not blur and one is given.

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
        Zhang et al., Distribution-Aware Coordinate Representation for Human Pose
        Estimation, CVPR 2020, arXiv:1910.06278; the sources of the rules are in
        :mod:`dark_jax.rules`.
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    settings = dark_step.check_settings(
        rule,
        dim=len(axes),
        kernel_size=kernel_size,
        blur_sigma=blur_sigma,
        covariance=covariance,
    )
    return decode_along(heatmaps, settings=settings, axes=axes)
