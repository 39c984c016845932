"""A rule with the blur that it uses, from the arguments of a decoder."""

from typing import NamedTuple

import numpy as np

from dark_jax import rules
from dark_jax._core import checks
from dark_jax._ops.gaussian import gaussian_kernel, kernel_sigma
from dark_jax._ops.pixels import box
from dark_jax._ops.window import Kernels
from dark_jax.rules import Rule


class DarkSettings(NamedTuple):
    """A rule and the blur that it uses, as ``kernel_size`` or ``blur_sigma``; hashable.

    ``covariance`` says whether the covariance is estimated too.
    """

    rule: Rule
    dim: int
    kernel_size: int | None
    blur_sigma: tuple[float, ...] | None
    covariance: bool = False

    @property
    def kernels(self) -> Kernels:
        """One kernel per axis, (x, y, ...)."""
        if self.blur_sigma is not None:
            return tuple(gaussian_kernel(sigma) for sigma in self.blur_sigma)
        if self.rule.kernel is None:
            return (np.ones(1),) * self.dim
        assert self.kernel_size is not None
        return (self.rule.kernel(self.kernel_size),) * self.dim

    @property
    def radii(self) -> tuple[int, ...]:
        """The radii of the window that the blurred stencil depends on, (x, y, ...)."""
        return tuple(self.rule.stencil.reach + len(kernel) // 2 for kernel in self.kernels)

    @property
    def longest(self) -> float:
        """The longest credible step in pixels."""
        if self.kernel_size is not None:
            return max(self.rule.longest, kernel_sigma(self.kernel_size))
        assert self.blur_sigma is not None
        return max(self.rule.longest, *self.blur_sigma)

    @property
    def offsets(self) -> np.ndarray:
        """``[n, dim]``, the offsets of the pixels that the step is made from."""
        if self.rule.centroid is not None:
            return box((self.rule.centroid,) * self.dim)
        if self.rule.fixed_step == 0:
            return np.zeros((1, self.dim), np.int32)
        return self.rule.stencil.offsets(self.dim)


def check_settings(
    rule: Rule,
    *,
    dim: int,
    kernel_size: int | None = None,
    blur_sigma: float | tuple[float, ...] | None = None,
    covariance: bool = False,
) -> DarkSettings:
    """Check the arguments of a decoder and return them."""
    if not isinstance(rule, Rule):
        names = ", ".join(f"rules.{one.name}" for one in (rules.GUARDED, *rules.PUBLISHED))
        raise TypeError(f"rule must be a Rule of dark_jax.rules, as {names}, got {rule!r}")
    if dim not in rule.dims:
        expected = " or ".join(map(str, rule.dims))
        raise ValueError(
            f"rule {rule.name} is for maps of dimension {expected}, got {dim}: give other axes, or "
            "rules.GUARDED"
        )
    if kernel_size is not None and blur_sigma is not None:
        raise ValueError(
            f"give kernel_size or blur_sigma, not both: got kernel_size={kernel_size}, "
            f"blur_sigma={blur_sigma}"
        )
    if rule.kernel is None and not (kernel_size is None and blur_sigma is None):
        given = f"kernel_size={kernel_size}" if blur_sigma is None else f"blur_sigma={blur_sigma}"
        raise ValueError(f"rule {rule.name} does not blur: leave out {given}")
    if checks.flag("covariance", covariance) and not rule.covariance:
        raise ValueError(
            f"covariance must be left out with rule {rule.name}: only rules.GUARDED estimates it"
        )
    if blur_sigma is not None:
        each = checks.positive_each("blur_sigma", blur_sigma, dim)
        return DarkSettings(rule, dim, None, each, covariance)
    size = rule.kernel_size if kernel_size is None else kernel_size
    return DarkSettings(rule, dim, checks.odd_kernel("kernel_size", size), None, covariance)
