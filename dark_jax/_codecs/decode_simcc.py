"""Decoding SimCC, which has a row of bins for each coordinate instead of a map."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dark_jax import rules
from dark_jax._codecs import dark_step
from dark_jax._codecs.dark_step import DarkSettings
from dark_jax._codecs.decode import decode_along
from dark_jax._core import checks
from dark_jax._core.keypoints import Keypoints


@functools.partial(jax.jit, static_argnames=("split_ratio", "settings"))
def _decode_simcc(
    bins: tuple[jax.Array, jax.Array],
    *,
    split_ratio: float,
    settings: tuple[DarkSettings, DarkSettings],
) -> Keypoints:
    x, y = (
        decode_along(one, settings=each, axes=(one.ndim - 1,))
        for one, each in zip(bins, settings, strict=True)
    )
    coords = jnp.concatenate([x.coords, y.coords], axis=-1)
    scores = jnp.minimum(x.scores, y.scores)
    missing = settings[0].rule.missing
    if missing is not None:
        coords = jnp.where((scores > 0)[..., None], coords, missing)
    # The lower status takes precedence, but REFINED, which is zero, needs both to be REFINED.
    first, last = jnp.minimum(x.status, y.status), jnp.maximum(x.status, y.status)
    status = jnp.where(first == 0, last, first)
    return Keypoints(coords=coords / split_ratio, scores=scores, status=status)


def decode_simcc(
    x_bins: ArrayLike,
    y_bins: ArrayLike,
    *,
    split_ratio: float = 2.0,
    rule: rules.Rule = rules.MMPOSE_SIMCC_DARK,
    kernel_size: int | tuple[int, int] | None = None,
) -> Keypoints:
    """Find the keypoints of SimCC networks, which return bins along x and bins along y.

    Each row of bins is decoded as a 1-D map, as by ``decode(..., axes=(-1,))``.

    Args:
        x_bins: ``[..., W]`` real numbers, the bins along x.
        y_bins: ``[..., H]`` real numbers, the bins along y, with the same leading axes.
        split_ratio: the number of bins for each pixel of the network's input; static.
        rule: ``rules.MMPOSE_SIMCC_DARK`` or ``rules.GUARDED``; static.
        kernel_size: odd size of the blur in bins, or one for x and one for y; static. The default
            is that of the rule. mmpose takes the largest odd number up to ``(20 sigma - 7) / 3``
            of the training sigma: 37 for sigma 6, 29 for sigma 4.9.

    Returns:
        :class:`Keypoints`: ``coords [..., 2]``, ``(x, y)`` in pixels of the network's input;
        ``scores [...]``, the lower of the two maxima; ``status [...]``, the lower status of the
        two axes that is not ``REFINED``, if there is one.

    Notes:
        If the score is not above zero, a published rule returns its sentinel of -1 bin, which is
        ``-1 / split_ratio`` in pixels, as in the original. The default rule chooses its method
        from the data; see ``help(dark_jax)``.

    Raises:
        TypeError: bins do not hold real numbers; ``rule`` is not a ``Rule``; ``kernel_size`` is
            not an integer; ``split_ratio`` is not a number or is traced.
        ValueError: bins are empty or their leading axes differ; the rule is not for 1-D maps;
            ``kernel_size`` is even or below 1, or not one or two numbers; ``split_ratio`` is not
            positive and finite.

    Example:
        >>> import dark_jax
        >>> bins = dark_jax.encode([[40.5]], size=(96,), sigma=6.0, axes=(-1,))
        >>> dark_jax.decode_simcc(bins, bins).coords.round(2).tolist()
        [[20.25, 20.25]]

    References:
        Li et al., SimCC: a Simple Coordinate Classification Perspective for Human Pose
        Estimation, ECCV 2022, arXiv:2107.03332; ``refine_simcc_dark`` of mmpose.
    """
    x, _ = checks.maps_along("x_bins", x_bins, (-1,))
    y, _ = checks.maps_along("y_bins", y_bins, (-1,))
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(
            "x_bins and y_bins must have the same leading axes, got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    sizes = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,) * 2
    if len(sizes) != 2:
        raise ValueError(f"kernel_size must be one odd integer, or (x, y), got {kernel_size}")
    along_x, along_y = (dark_step.check_settings(rule, dim=1, kernel_size=size) for size in sizes)
    return _decode_simcc(
        (x, y),
        split_ratio=checks.positive("split_ratio", split_ratio),
        settings=(along_x, along_y),
    )
