"""What a rule consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from dark_jax._core import checks
from dark_jax._ops.gaussian import opencv_kernel
from dark_jax._ops.pixels import Padding
from dark_jax._ops.rescale import Rescale
from dark_jax._ops.stencil import TAYLOR, Stencil

KINDS: dict[str, type] = {"padding": Padding, "rescale": Rescale, "stencil": Stencil}
FLAGS = (
    *("peak_of_blurred", "logarithm", "scale_free", "score_at_step", "refined_only"),
    *("clip_infinity", "covariance", "flat_top"),
)
SIZES = ("floor", "ceiling", "ridge", "least_det", "largest_component", "fixed_step", "longest")
INFINITE = ("ceiling", "longest")
NUMBERS = ("shift", "shift_at_edge", "score_scale", "score_shift")
OPTIONAL = ("margin_across", "largest_component", "fixed_step")


@jax.tree_util.register_static
@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a decoder goes from the maximum of a map to the coordinate.

    Attributes:
        name: the name of the rule.
        source: where it is published.
        summary: what it does, in one sentence.
        dims: the numbers of map axes that it is defined for.
        kernel: a function that takes the kernel size in pixels and returns as many float64
            coefficients. With None, the map is not blurred.
        kernel_size: the default size of the kernel; odd.
        padding: what the blur sees outside the map. Without a blur, what the step sees there.
        rescale: how the blurred map is rescaled.
        peak_of_blurred: peak and score are those of the blurred and rescaled map, not of the raw
            one.
        logarithm: the Newton step is that of the logarithm of the map, not of the map.
        floor: lower values are raised to this before the logarithm; in the unit of the map.
        ceiling: higher values are lowered to this before the logarithm.
        scale_free: ``floor`` and ``ceiling`` are multiples of the map's maximum.
        stencil: the differences that make gradient and Hessian.
        margin: how many pixels the peak must have before it and after it on every axis. Otherwise
            no step is taken. If the stencil of a blurred map reaches further, the edge pixels are
            repeated.
        margin_across: gives every axis a guard of its own: a step along an axis needs ``margin``
            on this axis and ``margin_across`` on the others. None: all axes have one guard.
        ridge: added to the diagonal of the Hessian.
        least_det: no Newton step is taken if the determinant of the Hessian is closer to zero.
        largest_component: a Newton step with a larger component is shortened, so that its largest
            component has this many pixels. None: it is not shortened.
        fixed_step: a step of so many pixels towards the higher neighbour, instead of a Newton
            step; 0 for no step.
        centroid: a step to the centroid of the values that are up to so many pixels away,
            instead of a Newton step. It is not taken if the sum of these values is not positive.
        shift: added to each coordinate if the margin allows a step.
        shift_at_edge: added to each coordinate if the margin does not allow a step.
        score_at_step: the score is the value of the quadratic model at the end of the step,
            not the maximum.
        score_scale: the score is multiplied by this.
        score_shift: added to the score after that.
        refined_only: take the step only if the status is ``REFINED``, and keep the integer peak
            otherwise. If False, the step is taken whatever the status.
        clip_infinity: treat infinite pixels around the peak as the largest numbers that can be
            blurred. If False, they spread over the stencil. The status is ``NOT_FINITE`` in both
            cases.
        covariance: whether ``decode(..., covariance=True)`` is supported. It needs Newton steps,
            ``refined_only`` and maps that are not rescaled.
        longest: the longest step in pixels; the status of a longer one is ``STEP_TOO_LONG``.
            Steps up to the sigma of the blur, or up to that of the blob (at most 3 pixels), are
            allowed too.
        missing: the coordinates of a map without a positive maximum; None keeps its argmax.
        flat_top: start at the middle of a flat top: of the pixels that share the maximum, touch,
            and are within 7 pixels of the first. If False, start at the first of them in
            row-major order.

    Notes:
        If the Hessian is singular, no step is taken. For JAX, a rule is a pytree without leaves.
        So it may be an argument of a function under ``jit``, which is compiled once for each
        rule.

    Example:
        >>> import dataclasses
        >>> import dark_jax
        >>> mine = dataclasses.replace(dark_jax.rules.VITPOSE, name="MINE", kernel_size=17)
        >>> heatmaps = dark_jax.encode([[20.25, 30.5], [24.0, 18.75]], size=(64, 48))
        >>> dark_jax.decode(heatmaps, rule=mine).coords.round(2).tolist()
        [[20.25, 30.5], [24.0, 18.75]]

    References:
        The ``source`` of each rule; Zhang et al., CVPR 2020, arXiv:1910.06278 (``DARKPOSE``);
        Huang et al., CVPR 2020, arXiv:1911.07524 (UDP).
    """

    name: str
    source: str
    summary: str = ""
    dims: tuple[int, ...] = (2,)
    kernel: Callable[[int], np.ndarray] | None = opencv_kernel
    kernel_size: int = 11
    padding: Padding = Padding.ZEROS
    rescale: Rescale = Rescale.NO
    peak_of_blurred: bool = False
    logarithm: bool = True
    floor: float = 1e-10
    ceiling: float = np.inf
    scale_free: bool = False
    stencil: Stencil = TAYLOR
    margin: tuple[int, int] = (2, 2)
    margin_across: tuple[int, int] | None = None
    ridge: float = 0.0
    least_det: float = 0.0
    largest_component: float | None = None
    fixed_step: float | None = None
    centroid: int | None = None
    shift: float = 0.0
    shift_at_edge: float = 0.0
    score_at_step: bool = False
    score_scale: float = 1.0
    score_shift: float = 0.0
    refined_only: bool = False
    clip_infinity: bool = False
    covariance: bool = False
    longest: float = 1.5
    missing: float | None = -1.0
    flat_top: bool = False

    @property
    def newton(self) -> bool:
        """Whether the step is a Newton step."""
        return self.fixed_step is None and self.centroid is None

    @property
    def of_whole_map(self) -> bool:
        """Whether every map is blurred as a whole, because the peak or the step depends on it."""
        scaled = self.rescale is not Rescale.NO and self.newton and not self.logarithm
        return self.peak_of_blurred or scaled or self.rescale is Rescale.TO_OLD_RANGE

    def __post_init__(self) -> None:
        """Check the fields: a wrong one raises an error."""
        self._check_kinds()
        self._check_numbers()
        if not 0 < self.floor < self.ceiling:
            raise ValueError(
                f"rule {self.name} must satisfy 0 < floor < ceiling, got floor={self.floor}, "
                f"ceiling={self.ceiling}"
            )
        plain = {"rescale": Rescale.NO, "peak_of_blurred": False}
        newton = {"fixed_step": None, "centroid": None}
        if self.kernel is None:
            self._require("kernel=None", **plain)
        if self.centroid is not None:
            self._require(f"centroid={self.centroid}", kernel=None, fixed_step=None)
        if self.refined_only:
            self._require("refined_only=True", ridge=0)
        if self.clip_infinity:
            self._require("clip_infinity=True", **plain)
        if self.score_at_step:
            self._require("score_at_step=True", **newton, **plain, logarithm=False)
        if self.covariance:
            own = {"refined_only": True, "logarithm": True, "largest_component": None}
            self._require("covariance=True", **newton, **plain, **own)

    def _require(self, what: str, **fields: object) -> None:
        """Refuse other values of ``fields`` in a rule that has ``what``."""
        for name, needed in fields.items():
            if (value := getattr(self, name)) != needed:
                raise ValueError(
                    f"rule {self.name}: {name} must be {needed} with {what}, got {value!r}"
                )

    def _check_kinds(self) -> None:
        """Check the fields that are not plain numbers. Lists become tuples: a rule is hashed."""
        what = f"rule {self.name}:"
        for name, kind in KINDS.items():
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{what} {name} must be a rules.{kind.__name__}, got {value!r}")
        for name in FLAGS:
            checks.flag(f"{what} {name}", getattr(self, name))
        if self.kernel is not None:
            checks.function(f"{what} kernel", self.kernel)
        checks.odd_kernel(f"{what} kernel_size", self.kernel_size)
        if self.centroid is not None:
            checks.at_least_one(f"{what} centroid", self.centroid)
        dims = checks.integers(f"{what} dims", self.dims, "some of 1, 2 and 3")
        if not dims or not set(dims) <= {1, 2, 3}:
            raise ValueError(f"{what} dims must be some of 1, 2 and 3, got {dims}")
        object.__setattr__(self, "dims", dims)
        for name in ("margin", "margin_across"):
            if (value := getattr(self, name)) is None and name in OPTIONAL:
                continue
            margin = checks.integers(f"{what} {name}", value, "two integers of at least 0")
            if len(margin) != 2 or min(margin) < 0:
                raise ValueError(f"{what} {name} must be two integers of at least 0, got {margin}")
            object.__setattr__(self, name, margin)

    def _check_numbers(self) -> None:
        what = f"rule {self.name}:"
        if not isinstance(self.missing, int | float | np.number | None):
            raise TypeError(f"{what} missing must be a number or None, got {self.missing!r}")
        for name in SIZES:
            value = 0 if name in OPTIONAL and getattr(self, name) is None else getattr(self, name)
            if not isinstance(value, int | float | np.number) or not value >= 0:  # nor NaN
                raise ValueError(f"{what} {name} must be a number of at least 0, got {value!r}")
        for name in (*NUMBERS, *(size for size in SIZES if size not in INFINITE)):
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            if not isinstance(value, int | float | np.number) or not np.isfinite(value):
                raise ValueError(f"{what} {name} must be a finite number, got {value!r}")

    def __repr__(self) -> str:
        """Return the name only; ``vars`` shows the fields."""
        return f"rules.{self.name}"
