"""Decoding SimCC, which has a row of bins for each coordinate instead of a map."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax import rules
from dark_jax._codecs.dark_settings import DarkSettings, check_settings
from dark_jax._codecs.decode import decode_along
from dark_jax._core import checks
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._core.numerics import as_float

# How the maxima of the two rows make a score.
SCORES = {"min": jnp.minimum, "mean": lambda x, y: 0.5 * x + 0.5 * y}


Bins = tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]


def check_bins(x_bins: ArrayLike, y_bins: ArrayLike) -> Bins:
    """Both rows of bins, if they have the same leading axes."""
    x, _ = checks.maps_along("x_bins", x_bins, (-1,))
    y, _ = checks.maps_along("y_bins", y_bins, (-1,))
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(
            "x_bins and y_bins must have the same leading axes, got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    return x, y


@functools.partial(jax.jit, static_argnames=("split_ratio", "settings", "missing", "score"))
def _decode_simcc(
    bins: tuple[jax.Array, jax.Array],
    *,
    split_ratio: float,
    settings: tuple[DarkSettings, DarkSettings],
    missing: float | None,
    score: str,
) -> Keypoints:
    x, y = (
        decode_along(one, settings=each, axes=(one.ndim - 1,))
        for one, each in zip(bins, settings, strict=True)
    )
    coords = jnp.concatenate([x.coords, y.coords], axis=-1)
    scores = SCORES[score](x.scores, y.scores)
    if missing is not None:
        coords = jnp.where((scores > 0)[..., None], coords, missing)
    # The score decides whether there is a peak. The lower status takes precedence, but REFINED,
    # which is zero, needs both to be REFINED.
    of_rows = [
        jnp.where((each == Status.NO_PEAK.value) & (scores > 0), 0, each)
        for each in (x.status, y.status)
    ]
    first, last = jnp.minimum(*of_rows), jnp.maximum(*of_rows)
    status = jnp.where(first == 0, last, first)
    return Keypoints(coords=coords / split_ratio, scores=scores, status=status)


def decode_simcc(
    x_bins: ArrayLike,
    y_bins: ArrayLike,
    *,
    split_ratio: float = 2.0,
    rule: rules.Rule = rules.MMPOSE_SIMCC,
    kernel_size: int | tuple[int, int] | None = None,
    score: Literal["min", "mean"] = "min",
) -> Keypoints:
    """Find the keypoints of SimCC networks, which return bins along x and bins along y.

    Each row of bins is decoded as a 1-D map, as by ``decode(..., axes=(-1,))``. The default takes
    the highest bin, as RTMPose, RTMW and DWPose do.

    Args:
        x_bins: ``[..., W]`` real numbers, the bins along x.
        y_bins: ``[..., H]`` real numbers, the bins along y, with the same leading axes.
        split_ratio: the number of bins for each pixel of the network's input; static.
        rule: ``rules.MMPOSE_SIMCC``, ``rules.MMPOSE_SIMCC_DARK`` (mmpose with ``use_dark=True``),
            ``rules.GUARDED`` or ``rules.ARGMAX``; static.
        kernel_size: odd size of the blur in bins, or one for x and one for y; static. Only for
            rules that blur, and by default that of the rule. mmpose takes the largest odd number
            up to ``(20 sigma - 7) / 3`` of the training sigma: 37 for sigma 6, 29 for sigma 4.9.
        score: ``"min"`` for the lower of the two maxima, as mmpose has it, or ``"mean"`` for their
            mean, as recent versions of rtmlib have it; static.

    Returns:
        :class:`Keypoints`: ``coords [..., 2]``, ``(x, y)`` in pixels of the network's input;
        ``scores [...]``; ``status [...]``, the lower status of the two axes that is not
        ``REFINED``, if there is one.

    Notes:
        If the score is not above zero, a published rule returns its sentinel of -1 bin, which is
        ``-1 / split_ratio`` in pixels, as in the original. For ``MMPOSE_SIMCC``, ``REFINED`` means
        that there is a highest bin. The rule ``MMPOSE_SIMCC_DARK`` chooses its method from the
        data; see ``help(dark_jax)``. :func:`simcc_visibility` gives RTMW's second score.

    Raises:
        TypeError: bins do not hold real numbers; ``rule`` is not a ``Rule``; ``kernel_size`` is
            not an integer; ``split_ratio`` is not a number or is traced.
        ValueError: bins are empty or their leading axes differ; the rule is not for 1-D maps;
            ``kernel_size`` is even or below 1, or not one or two numbers, or the rule does not
            blur; ``split_ratio`` is not positive and finite; ``score`` is not one of the two.

    Example:
        >>> import dark_jax
        >>> bins = dark_jax.encode([[40.5]], size=(96,), sigma=6.0, axes=(-1,))
        >>> dark_jax.decode_simcc(bins, bins).coords.tolist()
        [[20.0, 20.0]]
        >>> dark = dark_jax.rules.MMPOSE_SIMCC_DARK
        >>> dark_jax.decode_simcc(bins, bins, rule=dark).coords.round(2).tolist()
        [[20.25, 20.25]]

    References:
        Li et al., SimCC: a Simple Coordinate Classification Perspective for Human Pose
        Estimation, ECCV 2022, arXiv:2107.03332; ``SimCCLabel`` of mmpose.
    """
    x, y = check_bins(x_bins, y_bins)
    sizes = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,) * 2
    if len(sizes) != 2:
        raise ValueError(f"kernel_size must be one odd integer, or (x, y), got {kernel_size}")
    along_x, along_y = (check_settings(rule, dim=1, kernel_size=size) for size in sizes)
    if not isinstance(score, str) or score not in SCORES:
        raise ValueError(f"score must be {' or '.join(map(repr, SCORES))}, got {score!r}")
    if score == "mean" and rule.missing is not None:
        # The sentinel depends on the score of both rows. One row may have no positive maximum.
        open_rule = dataclasses.replace(rule, missing=None)
        along_x, along_y = (each._replace(rule=open_rule) for each in (along_x, along_y))
    return _decode_simcc(
        (x, y),
        split_ratio=checks.positive("split_ratio", split_ratio),
        settings=(along_x, along_y),
        missing=rule.missing,
        score=score,
    )


@jax.jit
def _simcc_visibility(
    bins: tuple[jax.Array, jax.Array], sharpness: tuple[jax.Array, jax.Array]
) -> jax.Array:
    def highest(row: jax.Array, factor: jax.Array) -> jax.Array:
        row = as_float(row)
        below = row - jnp.max(row, axis=-1, keepdims=True)
        return 1 / jnp.sum(jnp.exp(below * factor.astype(row.dtype)), axis=-1)

    return jnp.minimum(*map(highest, bins, sharpness))


def simcc_visibility(
    x_bins: ArrayLike,
    y_bins: ArrayLike,
    *,
    sigma: float | tuple[float, float],
    beta: float = 150.0,
) -> jax.Array:
    """The visibility that RTMW reads from SimCC bins.

    It is the highest probability of ``softmax(beta * sigma * bins)``, the lower one of x and y.

    Args:
        x_bins: ``[..., W]`` real numbers, the bins along x.
        y_bins: ``[..., H]`` real numbers, the bins along y, with the same leading axes.
        sigma: the sigma of the training targets in bins, one number or ``(x, y)``; static. It is
            ``sigma`` of the codec in the network's configuration.
        beta: the factor of mmpose, ``decode_beta``; static.

    Returns:
        ``[...]`` float, between 0 and 1. It is NaN if the bins hold a NaN or an infinite maximum.

    Raises:
        TypeError: bins do not hold real numbers; ``sigma`` or ``beta`` are not numbers or are
            traced.
        ValueError: bins are empty or their leading axes differ; ``sigma`` or ``beta`` are not
            positive and finite, or their product is not; ``sigma`` is not one or two numbers.

    Example:
        >>> import dark_jax
        >>> bins = dark_jax.encode([[40.0], [40.5]], size=(96,), sigma=6.0, axes=(-1,))
        >>> dark_jax.simcc_visibility(bins, bins, sigma=6.0).round(2).tolist()
        [1.0, 0.5]

    References:
        ``SimCCLabel(decode_visibility=True)`` of mmpose; Jiang et al., RTMW, 2024,
        arXiv:2407.08634.
    """
    bins = check_bins(x_bins, y_bins)
    factor = checks.positive("beta", beta)
    products = [
        checks.positive("beta times sigma", factor * each)
        for each in checks.positive_each("sigma", sigma, 2)
    ]
    return _simcc_visibility(bins, tuple(map(jnp.asarray, products)))
