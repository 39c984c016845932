"""The least-squares fit of a Gaussian of known width, and the error of its place."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.batching import of_each, other_sizes
from dark_jax._core.keypoints import Keypoints, Status, status_of
from dark_jax._core.numerics import as_float, inverse_power_of_two, known_values
from dark_jax._ops.flat_top import at_middle, is_missed, seen_from
from dark_jax._ops.gaussian import blur, gaussian_kernel
from dark_jax._ops.gaussian_model import (
    gauss_newton,
    outer,
    residual_variance,
    through,
    window_at,
)
from dark_jax._ops.peak import Peak, find_peak
from dark_jax._ops.pixels import Position

# The default radius of the window in sigmas. The error is then at most 2 % above that of a window
# without end. A radius of 1.5 sigmas would be up to 11 % above it.
REACH = 2.0
# A smaller window has too few pixels to estimate their noise for the covariance.
SMALLEST_RADIUS = 3
# Up to a sigma of two, so up to this radius, the maximum of a noisy blob is close to its centre.
SMALL_RADIUS = 4
PLACE_STEPS = 3
# The longest of these steps in pixels. A fit whose last step would be longer has not settled.
LONGEST_PLACE_STEP = 0.7
# Smaller sigmas, in pixels, are raised to this one, so that their squares can be held. The Gaussian
# is a single pixel in either case.
NARROWEST = 1e-6


def _recentred(
    heatmap: jax.Array,
    position: Position,
    radii: tuple[int, ...],
    sigmas: Sequence[jax.Array],
    floor: jax.Array,
) -> Position:
    """The pixel near a start where the Gaussian explains most of what is around it.

    This is a matched filter over the pixels within one sigma, all in the same window of ``radii``.
    """
    nears = [_near(radius) for radius in radii]
    if not any(nears):
        return position
    window, _ = window_at(heatmap, position, radii, floor)
    filters, norms, allowed = [], [], []
    for place, weight, radius, near, sigma in zip(
        window.places, window.weights, radii, nears, sigmas, strict=True
    ):
        candidates = jnp.arange(-near, near + 1, dtype=place.dtype)
        distance = place[:, None] - candidates[None, :]
        factor = jnp.exp(-0.5 * (distance / sigma) ** 2)
        filters.append(factor)
        norms.append(jnp.matmul(weight, factor**2, precision=lax.Precision.HIGHEST))
        allowed.append(weight[radius - near : radius + near + 1])
    explained = through(window.values, filters)
    norm, allow = outer(norms), outer(allowed)
    score = jnp.where(allow > 0, explained * lax.rsqrt(jnp.where(norm > 0, norm, 1)), -jnp.inf)
    best = find_peak(lax.stop_gradient(score)).position
    return tuple(at + (found - near) for at, found, near in zip(position, best, nears, strict=True))


def _near(radius: int) -> int:
    """How far to re-centre: one sigma, or zero for blobs so small that their maximum is near."""
    # The radius is ``REACH`` sigmas, rounded up.
    return math.ceil((radius - 0.5) / REACH) if radius > SMALL_RADIUS else 0


def _fit(
    heatmap: jax.Array,
    sigmas: Sequence[jax.Array],
    background: jax.Array | None,
    radii: tuple[int, ...],
    start: Peak,
) -> Keypoints:
    """Fit a Gaussian to one map around a start."""
    dtype = start.score.dtype
    # A traced sigma may be invalid. The fit then runs with another one, and its result is not used.
    wide = [(sigma > 0) & jnp.isfinite(sigma) for sigma in sigmas]
    usable = functools.reduce(jnp.logical_and, wide)
    sigmas = [jnp.where(usable, sigma, 1).astype(dtype) for sigma in sigmas]
    sigmas = [jnp.maximum(sigma, NARROWEST) for sigma in sigmas]
    floor = jnp.zeros((), dtype) if background is None else background.astype(dtype)
    known = jnp.isfinite(start.score) & usable
    height = jnp.where(known, start.score, floor) - floor
    centre = _recentred(heatmap, start.position, radii, sigmas, floor)
    window, finite = window_at(heatmap, centre, radii, floor)
    # Values are brought near one, because squares of tiny values would vanish.
    window = window._replace(values=window.values * inverse_power_of_two(jnp.abs(height)))

    at = last = jnp.zeros(len(centre), dtype)
    concave, steps = jnp.ones((), bool), []
    for _ in range(PLACE_STEPS):
        steps.append(gauss_newton(window, [*at], sigmas, with_floor=background is None))
        concave &= (steps[-1].amplitude > 0) & steps[-1].system.concave
        last = steps[-1].system.newton_step(concave)
        at += jnp.clip(last, -LONGEST_PLACE_STEP, LONGEST_PLACE_STEP)

    sizes = jnp.asarray(heatmap.shape[::-1], dtype)
    coords = jnp.stack(centre).astype(dtype) + at
    outside = jnp.any((coords < -1) | (coords > sizes))
    lost = jnp.any(jnp.abs(last) > LONGEST_PLACE_STEP) | jnp.any(
        jnp.abs(at) > jnp.maximum(1.5, jnp.stack([*sigmas]))
    )
    flat = is_missed(heatmap, start.moved(centre), [*at], radii)
    status = status_of(
        {
            Status.NOT_FINITE: ~finite | ~known,
            Status.NO_PEAK: ~(height > 0),
            Status.BORDER: outside,
            Status.NOT_CONCAVE: ~concave | flat,
            Status.STEP_TOO_LONG: lost,
        }
    )
    unrefined = jnp.where(jnp.isnan(start.score), jnp.nan, start.coords)
    refined = status == Status.REFINED.value
    # The noise is measured in the residuals of the blob and propagated through the fit. Both are
    # taken from before the last step, because that step is too short to matter.
    final = steps[-1]
    left = residual_variance(window, final, len(centre) + 1 + (background is None))
    covariance = final.system.negative_inverse(refined) * left / final.norm
    return Keypoints(
        coords=jnp.where(refined, coords, unrefined),
        scores=start.score,
        status=status,
        covariance=jnp.where(refined, covariance, jnp.inf),
    )


@functools.partial(jax.jit, static_argnames=("radii", "blurs", "axes"))
def _decode_fit(
    heatmaps: jax.Array,
    sigmas: tuple[jax.Array, ...],
    background: jax.Array | None,
    *,
    radii: tuple[int, ...],
    blurs: tuple[float, ...] | None,
    axes: tuple[int, ...],
) -> Keypoints:
    def one(
        heatmap: jax.Array, sigmas: tuple[jax.Array, ...], background: jax.Array | None
    ) -> Keypoints:
        peak = find_peak(heatmap)
        above = 0.0 if background is None else background.astype(peak.score.dtype)
        if blurs is not None:
            whole = as_float(heatmap)
            whole = jnp.where(jnp.isfinite(whole), whole, 0)
            smooth = blur(whole, [gaussian_kernel(sigma) for sigma in blurs])
            start = seen_from(heatmap, peak, find_peak(smooth).position)
        else:
            start = at_middle(heatmap, peak, above=above)
        return _fit(heatmap, sigmas, background, radii, start)

    return of_each(one, heatmaps, axes, sigmas, background)


def _of_axes(sigma: jax.Array | np.ndarray, dim: int) -> tuple[jax.Array | np.ndarray, ...]:
    """One sigma per axis, (x, y, ...): an array for the maps, or a scalar if there is only one."""
    each = [sigma[..., min(n, sigma.shape[-1] - 1)] if sigma.ndim else sigma for n in range(dim)]
    # A scalar has no part in the sharding of the maps.
    return tuple(one.reshape(()) if one.size == 1 else one for one in each)


def decode_fit(
    heatmaps: ArrayLike,
    *,
    sigma: ArrayLike | Sequence[Any],
    radius: int | None = None,
    background: ArrayLike | None = 0.0,
    from_blurred: bool = False,
    axes: tuple[int, ...] = (-2, -1),
) -> Keypoints:
    """Find keypoints at the statistical limit, by least squares of a Gaussian of known sigma.

    A Gaussian is fitted to a window around the maximum, for its place and height, by three
    Gauss-Newton steps. Pixels outside the map have no weight, so keypoints near an edge are
    refined too. No decoder is more exact if the noise of the pixels is independent and the blobs
    are Gaussians of this sigma. Use :func:`estimate_sigma` if the sigma is unknown.

    Args:
        heatmaps: array of real numbers ``[..., H, W]``. Other layouts are described by ``axes``.
            Apply ``jax.nn.sigmoid`` to logits first.
        sigma: sigma of the blobs in pixels, that of the training targets or of
            :func:`estimate_sigma`: numbers that broadcast to the coordinates ``[..., dim]``.
            ``2.0`` is for all, ``(2.0, 2.0, 1.0)`` for x, y and z, ``[[1.0], [3.0]]`` for each of
            two joints. It may be traced if ``radius`` is given.
        radius: the window reaches so many pixels to each side; static. The default is
            ``ceil(2 sigma)``, at least 3, of the largest sigma of each axis. A smaller window is
            less exact, but a second blob nearby disturbs it less.
        background: value of the map far from any blob: a number or an array that broadcasts to
            the shape of the scores; may be traced. With None, a constant is fitted in each
            window.
        from_blurred: start at the maximum of the blurred map; static. Use it for maps with one
            blob and noise of 0.2 of its height or more. With several blobs it may start at a
            neighbour that is broader.
        axes: the axes of one map, in increasing order, as for :func:`decode`; static.

    Returns:
        :class:`Keypoints`: ``coords [..., dim]`` in heatmap pixels, ``scores [...]``, the raw
        maxima, ``status [...]``, and ``covariance [..., dim, dim]`` in pixels squared.

    Notes:
        If the window reaches more than 4 pixels to each side, the start is first moved to the
        pixel within one sigma where the Gaussian fits best.

        ``NO_PEAK`` means that the maximum is not above the background, or not above zero if the
        background is fitted. ``BORDER`` means that the fit ends more than a pixel outside the
        map. ``STEP_TOO_LONG`` means that the fit did not converge, or that along an axis it ends
        further from the start than both one sigma and 1.5 pixels. In all these cases the
        coordinates are the integer start, before it was moved. If a traced sigma is not positive
        and finite, the status is ``NOT_FINITE``.

        The covariance is estimated from what the blob leaves unexplained in the window. Its
        ellipses hold the expected share of the errors if that is independent noise, also at
        borders. A second blob or a wrong sigma makes it larger. It is the error of the decoder,
        not of the network: on frames of a mouse the 1-sigma ellipse held 0.4 to 4 % of the errors
        to the human label instead of 39 %.

    Raises:
        TypeError: an array does not hold real numbers; ``radius`` or ``axes`` are not integers;
            ``from_blurred`` is not a bool; ``sigma`` is traced, and ``radius`` is not given or
            ``from_blurred`` is True.
        ValueError: ``heatmaps`` lacks the axes or its maps are empty; ``sigma`` is not positive
            and finite, does not broadcast, or differs from map to map with ``from_blurred``;
            ``radius`` is below 1; ``background`` is NaN or does not broadcast; ``axes`` are not
            one to three in increasing order.

    Example:
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[20.25, 30.5], [0.5, 18.75]], size=(64, 48))
        >>> dark_jax.decode_fit(heatmaps, sigma=2.0).coords.round(2).tolist()
        [[20.25, 30.5], [0.5, 18.75]]

    References:
        The method is the variable projection of Golub and Pereyra, SIAM J. Numer. Anal. 10
        (1973). The limit is the Cramer-Rao bound.
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    dim = len(axes)
    others = other_sizes(heatmaps.shape, axes)
    checks.flag("from_blurred", from_blurred)
    sigma = checks.sigmas("sigma", sigma, others, dim)
    known = known_values(sigma)
    if known is None and (radius is None or from_blurred):
        raise TypeError(
            "sigma must not be traced without a radius, or with from_blurred=True: give a radius, "
            "such as ceil(2 sigma). Or it is static: bind it before jit, for example with "
            f"functools.partial; got radius={radius}, from_blurred={from_blurred}"
        )
    radii = () if radius is None else (checks.at_least_one("radius", radius),) * dim
    blurs = None
    if known is not None:
        each = _of_axes(known, dim)
        largest = tuple(float(np.max(one, initial=NARROWEST)) for one in each)
        radii = radii or tuple(max(math.ceil(REACH * one), SMALLEST_RADIUS) for one in largest)
        if from_blurred and any(len(np.unique(one)) > 1 for one in each):
            raise ValueError(
                "sigma must be the same for all maps with from_blurred=True, which blurs them; got "
                f"shape {known.shape}"
            )
        blurs = largest if from_blurred else None
    if background is not None:
        background = checks.not_nan("background", background, others)
    sigmas = _of_axes(sigma, dim)
    return _decode_fit(heatmaps, sigmas, background, radii=radii, blurs=blurs, axes=axes)
