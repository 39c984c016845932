"""Published decoders as rows of data.

Published functions that are called DARK, or are used in its place, give slightly different
results. A :class:`Rule` describes one of them, and ``decode(heatmaps, rule=...)`` runs it.
Published rules never change, so that a checkpoint always decodes in the same way. Only
``GUARDED`` may improve, in a new version of this package.

{rules}
- ``PUBLISHED``: all but ``GUARDED``, a tuple.

Unless a row says otherwise, the blur is OpenCV's with a kernel of 11 pixels (5 for ``GUARDED``),
and the map is padded with zeros. ``vars(rule)`` shows every number of a rule.

Two stencils for your own rules:

- ``TAYLOR``: second differences over two pixels, mixed differences of four diagonal neighbours
- ``COMPACT``: second differences over one pixel, mixed differences of two diagonal neighbours

Faults of the original code are not copied:

- A map without a positive maximum gives the sentinel of the rule, which is its field ``missing``.
  Some originals return NaN for a zero map (``MMPOSE_DARK``, ``MMPOSE_UDP``,
  ``MMPOSE_SIMCC_DARK``), or read a step from the memory of another map and add it to the sentinel
  (``MMPOSE_UDP``, ``MMPOSE_SIMCC_DARK``, ``VITPOSE``, ``HF_VITPOSE``, ``SAPIENS2``). A map with a
  NaN gives the sentinel too.
- No argument is overwritten, as it is by ``DARKPOSE``, ``VITPOSE`` and the functions of mmpose.
- A single joint works (``VITPOSE`` and ``HF_VITPOSE`` squeeze its axis away). A kernel of 1 does
  not blur (``DARKPOSE`` and the functions of mmpose raise an error).
- If the Hessian is singular, even with the ridge on its diagonal, the integer peak is kept.
  NumPy's ``inv`` raises an error there.
- At kernel size 9 the coefficients are those of OpenCV 4, whichever OpenCV the original uses.
"""

from __future__ import annotations

import enum
import functools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from dark_jax._core import checks
from dark_jax._ops.gaussian import formula_kernel, gaussian_kernel, opencv_kernel
from dark_jax._ops.pixels import Padding
from dark_jax._ops.stencil import COMPACT, TAYLOR, Stencil

_EPS32 = float(np.finfo(np.float32).eps)


class Rescale(enum.Enum):
    """How a blurred map is rescaled.

    Attributes:
        NO: it is not rescaled.
        TO_OLD_MAXIMUM: its maximum becomes the maximum before the blur.
        TO_OLD_MAXIMUM_IF_POSITIVE: the same, but only if the blurred maximum is above zero.

    Notes:
        Rescaling adds a constant to the logarithm, which does not change the step. It matters
        only for values at ``floor`` or ``ceiling``. For such values the whole map is blurred,
        because its maximum is needed.

    Example:
        >>> from dark_jax import rules
        >>> [rule.name for rule in rules.PUBLISHED if rule.rescale is rules.Rescale.NO]
        ['VITPOSE', 'HF_VITPOSE', 'HRNET']

    References:
        ``TO_OLD_MAXIMUM`` is that of DarkPose's ``gaussian_blur``, and
        ``TO_OLD_MAXIMUM_IF_POSITIVE`` that of ``SAPIENS2``.
    """

    NO = "no"
    TO_OLD_MAXIMUM = "to the old maximum"
    TO_OLD_MAXIMUM_IF_POSITIVE = "to the old maximum, if the new one is positive"


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
        padding: what the blur sees outside the map.
        rescale: how the blurred map is rescaled.
        floor: lower values are raised to this before the logarithm; in the unit of the map.
        ceiling: higher values are lowered to this before the logarithm.
        scale_free: ``floor`` and ``ceiling`` are multiples of the map's maximum.
        stencil: the differences that make gradient and Hessian.
        margin: how many pixels the peak must have before it and after it on every axis. Otherwise
            no step is taken. If the stencil reaches further, the edge pixels are repeated.
        ridge: added to the diagonal of the Hessian.
        fixed_step: a step of so many pixels towards the higher neighbour, instead of a Newton
            step.
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
    floor: float = 1e-10
    ceiling: float = np.inf
    scale_free: bool = False
    stencil: Stencil = TAYLOR
    margin: tuple[int, int] = (2, 2)
    ridge: float = 0.0
    fixed_step: float | None = None
    refined_only: bool = False
    clip_infinity: bool = False
    covariance: bool = False
    longest: float = 1.5
    missing: float | None = -1.0
    flat_top: bool = False

    def __post_init__(self) -> None:
        """Check the fields: a wrong one raises an error."""
        self._check_fields()
        if self.rescale is not Rescale.NO and self.padding is not Padding.ZEROS:
            raise ValueError(
                f"rule {self.name}: padding must be Padding.ZEROS where maps are rescaled, got "
                f"padding={self.padding}, rescale={self.rescale}"
            )
        if not 0 < self.floor < self.ceiling:
            raise ValueError(
                f"rule {self.name} must satisfy 0 < floor < ceiling, got floor={self.floor}, "
                f"ceiling={self.ceiling}"
            )
        if self.refined_only and self.ridge:
            raise ValueError(
                f"rule {self.name}: ridge must be 0 with refined_only=True, which takes no step "
                f"where the Hessian is singular, got ridge={self.ridge}"
            )
        if self.clip_infinity and self.rescale is not Rescale.NO:
            raise ValueError(
                f"rule {self.name}: clip_infinity must be False where maps are rescaled, "
                f"got clip_infinity=True, rescale={self.rescale}"
            )
        newton = self.fixed_step is None and self.rescale is Rescale.NO
        if self.covariance and not (self.refined_only and newton):
            raise ValueError(
                f"rule {self.name}: covariance=True needs Newton steps with refined_only=True and "
                f"rescale=Rescale.NO, got "
                f"refined_only={self.refined_only}, fixed_step={self.fixed_step}, "
                f"rescale={self.rescale}"
            )

    def _check_fields(self) -> None:
        """Check each field on its own. Lists become tuples, because a rule is hashed."""
        what = f"rule {self.name}:"
        for name, kind in {"padding": Padding, "rescale": Rescale, "stencil": Stencil}.items():
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{what} {name} must be a rules.{kind.__name__}, got {value!r}")
        if self.kernel is not None:
            checks.function(f"{what} kernel", self.kernel)
        checks.odd_kernel(f"{what} kernel_size", self.kernel_size)
        dims = checks.integers(f"{what} dims", self.dims, "some of 1, 2 and 3")
        if not dims or not set(dims) <= {1, 2, 3}:
            raise ValueError(f"{what} dims must be some of 1, 2 and 3, got {dims}")
        margin = checks.integers(f"{what} margin", self.margin, "two integers of at least 0")
        if len(margin) != 2 or min(margin) < 0:
            raise ValueError(f"{what} margin must be two integers of at least 0, got {margin}")
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "margin", margin)
        numbers = {name: getattr(self, name) for name in ("floor", "ceiling", "longest", "ridge")}
        numbers["fixed_step"] = 0 if self.fixed_step is None else self.fixed_step
        if not isinstance(self.missing, int | float | np.number | None):
            raise TypeError(f"{what} missing must be a number or None, got {self.missing!r}")
        for name, value in numbers.items():
            if not isinstance(value, int | float | np.number) or not value >= 0:  # nor NaN
                raise ValueError(f"{what} {name} must be a number of at least 0, got {value!r}")
        for name in ("scale_free", "refined_only", "clip_infinity", "covariance", "flat_top"):
            checks.flag(f"{what} {name}", getattr(self, name))

    def __repr__(self) -> str:
        """Return the name only; ``vars`` shows the fields."""
        return f"rules.{self.name}"


def _hf_vitpose_kernel(size: int) -> np.ndarray:
    return gaussian_kernel(0.8, radius=size // 2)


# What UDP's step and its descendants have in common.
_udp = functools.partial(
    Rule,
    floor=1e-3,
    ceiling=50.0,
    stencil=COMPACT,
    margin=(0, 0),
    ridge=_EPS32,
)

GUARDED = Rule(
    name="GUARDED",
    source="dark_jax",
    summary=(
        "the default, and our own: the step of ``DARKPOSE``, taken only where it leads to a "
        "maximum nearby. It does not depend on the scale of the map. The only rule for volumes."
    ),
    dims=(1, 2, 3),
    kernel_size=5,
    scale_free=True,
    refined_only=True,
    covariance=True,
    missing=None,
    flat_top=True,
)
DARKPOSE = Rule(
    name="DARKPOSE",
    source="DarkPose: get_final_preds",
    summary=(
        "DarkPose's ``get_final_preds``: a Newton step with differences over two pixels. A peak "
        "within two pixels of an edge keeps its integer place."
    ),
    rescale=Rescale.TO_OLD_MAXIMUM,
    missing=0.0,
)
MMPOSE_DARK = Rule(
    name="MMPOSE_DARK",
    source="mmpose: refine_keypoints_dark",
    summary="mmpose's ``MSRAHeatmap`` with ``unbiased=True``: as ``DARKPOSE``.",
    rescale=Rescale.TO_OLD_MAXIMUM,
)
MMPOSE_UDP = _udp(
    name="MMPOSE_UDP",
    source="mmpose: refine_keypoints_dark_udp",
    summary=(
        "mmpose's ``UDPHeatmap``: values are clamped to 1e-3 and 50, differences are over one "
        "pixel, and peaks at the edge are refined too."
    ),
    rescale=Rescale.TO_OLD_MAXIMUM,
)
MMPOSE_SIMCC_DARK = Rule(
    name="MMPOSE_SIMCC_DARK",
    source="mmpose: refine_simcc_dark",
    summary="mmpose's SimCC with ``use_dark``, for rows of bins, with a kernel of 37.",
    dims=(1,),
    kernel_size=37,
    rescale=Rescale.TO_OLD_MAXIMUM,
    floor=1e-3,
    ceiling=50.0,
    margin=(0, 0),
    ridge=1e-9,
)
VITPOSE = _udp(
    name="VITPOSE",
    source="ViTPose, rtmlib: post_dark_udp",
    summary="ViTPose and rtmlib: as ``MMPOSE_UDP``, not rescaled, mirrored at the edge.",
    padding=Padding.REFLECT,
    clip_infinity=True,
)
HF_VITPOSE = _udp(
    name="HF_VITPOSE",
    source="transformers: VitPoseImageProcessor",
    summary="Hugging Face's VitPose: as ``VITPOSE`` with a narrower Gaussian (sigma 0.8 px).",
    kernel=_hf_vitpose_kernel,
    padding=Padding.SYMMETRIC,
    clip_infinity=True,
)
SAPIENS2 = _udp(
    name="SAPIENS2",
    source="transformers: Sapiens2ImageProcessor",
    summary="Hugging Face's Sapiens2: as ``MMPOSE_UDP``, with OpenCV's formula at every size.",
    kernel=formula_kernel,
    rescale=Rescale.TO_OLD_MAXIMUM_IF_POSITIVE,
)
HRNET = Rule(
    name="HRNET",
    source="HRNet, SimpleBaseline: get_final_preds",
    summary="HRNet, SimpleBaseline: a quarter pixel towards the higher neighbour; no blur.",
    kernel=None,
    kernel_size=1,
    stencil=COMPACT,
    margin=(2, 1),
    fixed_step=0.25,
    clip_infinity=True,
    missing=0.0,
)

_RULES = tuple(value for value in vars().values() if isinstance(value, Rule))
PUBLISHED = tuple(rule for rule in _RULES if rule is not GUARDED)

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    *sorted(("PUBLISHED", *(rule.name for rule in _RULES))),
    "COMPACT",
    "TAYLOR",
    "Padding",
    "Rescale",
    "Rule",
    "Stencil",
]
if __doc__:  # Python leaves it out on request
    __doc__ = __doc__.replace(
        "{rules}",
        "\n".join(
            textwrap.fill(f"- ``{rule.name}``: {rule.summary}", 98, subsequent_indent="  ")
            for rule in _RULES
        ),
    )
