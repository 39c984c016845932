"""Published decoders as rows of data.

Published functions that are called DARK, or are used in its place, give slightly different
results. A :class:`Rule` describes one of them, and ``decode(heatmaps, rule=...)`` runs it.
Published rules never change, so that a checkpoint always decodes in the same way. Only
``GUARDED`` may improve, in a new version of this package.

{rules}
- ``PUBLISHED``: all but ``GUARDED``, a tuple.

Unless a row says otherwise, the blur is OpenCV's with a kernel of 11 pixels (5 for ``GUARDED``),
and the map is padded with zeros. ``vars(rule)`` shows every number of a rule.

- ``PORTING``: how to decode the networks of other code bases, a tuple of :class:`Port`. ``h`` are
  the heatmaps:

{porting}

Two stencils for your own rules:

- ``TAYLOR``: second differences over two pixels, mixed differences of four diagonal neighbours
- ``COMPACT``: second differences over one pixel, mixed differences of two diagonal neighbours

Faults of the original code are not copied:

- A map without a positive maximum gives the sentinel of the rule, its field ``missing``, if that
  is not None.
  Some originals return NaN for a zero map (``MMPOSE_DARK``, ``MMPOSE_UDP``,
  ``MMPOSE_SIMCC_DARK``), or read a step from the memory of another map and add it to the sentinel
  (``MMPOSE_UDP``, ``MMPOSE_SIMCC_DARK``, ``VITPOSE``, ``HF_VITPOSE``, ``SAPIENS2``). A map with a
  NaN gives the sentinel too, or NaN if there is none.
- No argument is overwritten, as it is by ``DARKPOSE``, ``VITPOSE`` and the functions of mmpose.
- A single joint works (``VITPOSE`` and ``HF_VITPOSE`` squeeze its axis away). A kernel of 1 does
  not blur (``DARKPOSE`` and the functions of mmpose raise an error).
- If the Hessian is singular, even with the ridge on its diagonal, the integer peak is kept.
  NumPy's ``inv`` raises an error there.
- FAN's guard and rows are those of square maps of 64 pixels; ``FAN`` takes the sides of the map.
- SLEAP returns NaN if the maximum is below 0.2, and takes x and y of tied maxima from different
  pixels. ``SLEAP_INTEGRAL`` has no threshold, and starts at the first of them.
- At kernel size 9 the coefficients are those of OpenCV 4, whichever OpenCV the original uses.
"""

from __future__ import annotations

import functools
import textwrap

import numpy as np

from dark_jax._ops.gaussian import formula_kernel, gaussian_kernel
from dark_jax._ops.pixels import Padding
from dark_jax._ops.rescale import Rescale
from dark_jax._ops.stencil import COMPACT, TAYLOR, Stencil
from dark_jax.rules._porting import PORTING, Port
from dark_jax.rules._rule import Rule

_EPS32 = float(np.finfo(np.float32).eps)


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
# A quarter of a pixel towards the higher neighbour, and what no step at all has in common with it.
_quarter = functools.partial(
    Rule,
    kernel=None,
    kernel_size=1,
    stencil=COMPACT,
    margin=(2, 1),
    fixed_step=0.25,
    clip_infinity=True,
)
_none = functools.partial(_quarter, margin=(0, 0), fixed_step=0.0)

GUARDED = Rule(
    name="GUARDED",
    source="dark_jax",
    summary=(
        "the default, and our own: the step of ``DARKPOSE``, taken only where it leads to a "
        "maximum nearby. It does not depend on the scale of the map. The only rule that refines "
        "volumes."
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
MMPOSE_MSRA = _quarter(
    name="MMPOSE_MSRA",
    source="mmpose: refine_keypoints",
    summary=(
        "mmpose's ``MSRAHeatmap``, its commonest codec: as ``HRNET``, but each axis has a guard of "
        "its own; no blur."
    ),
    margin_across=(1, 0),
)
MEGVII = Rule(
    name="MEGVII",
    source="mmpose: MegviiHeatmap",
    summary=(
        "mmpose's ``MegviiHeatmap`` (MSPN, RSN): the peak of the blurred map, plus a quarter pixel "
        "towards the higher neighbour and half a pixel, except at the edge. The score is divided "
        "by 255, and 0.5 is added."
    ),
    rescale=Rescale.TO_OLD_MAXIMUM,
    peak_of_blurred=True,
    stencil=COMPACT,
    margin=(2, 1),
    fixed_step=0.25,
    shift=0.5,
    score_scale=1 / 255,
    score_shift=0.5,
)
MMPOSE_SIMCC = _none(
    name="MMPOSE_SIMCC",
    source="mmpose, rtmlib: get_simcc_maximum",
    summary=(
        "SimCC as RTMPose, RTMW and DWPose decode it, for rows of bins: the highest bin; no blur."
    ),
    dims=(1,),
    missing=-1.0,
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
UDP_POSE = Rule(
    name="UDP_POSE",
    source="UDP-Pose: post",
    summary=(
        "UDP-Pose with Gaussian targets: as ``MMPOSE_UDP``, with a kernel of 7, mirrored at the "
        "edge, and rescaled so that the minimum of the blurred map is zero."
    ),
    kernel_size=7,
    padding=Padding.REFLECT,
    rescale=Rescale.TO_OLD_RANGE,
    floor=1e-3,
    ceiling=50.0,
    stencil=COMPACT,
    margin=(0, 0),
    missing=0.0,
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
HRNET = _quarter(
    name="HRNET",
    source="HRNet, SimpleBaseline: get_final_preds",
    summary="HRNet, SimpleBaseline: a quarter pixel towards the higher neighbour; no blur.",
    missing=0.0,
)
FAN = _quarter(
    name="FAN",
    source="face-alignment: get_preds_fromhm",
    summary=(
        "face-alignment's FAN: a quarter pixel towards the higher neighbour, and half a pixel on "
        "every map; no blur."
    ),
    margin=(1, 1),
    shift=0.5,
    shift_at_edge=0.5,
    missing=None,
)
SLEAP_INTEGRAL = Rule(
    name="SLEAP_INTEGRAL",
    source="sleap-nn: integral refinement",
    summary=(
        "SLEAP's ``integral`` refinement: the centroid of the 5 x 5 pixels around the peak; no "
        "blur."
    ),
    kernel=None,
    kernel_size=1,
    margin=(0, 0),
    centroid=2,
    clip_infinity=True,
    missing=None,
)
CAFFE2 = Rule(
    name="CAFFE2",
    source="Caffe2: HeatmapMaxKeypoint; Android NNAPI",
    summary=(
        "Caffe2's ``HeatmapMaxKeypoint`` (Mask R-CNN) and Android's NNAPI: a Newton step without "
        "blur and logarithm, of at most 1.5 pixels along an axis. The score is that of the place "
        "where the step ends."
    ),
    kernel=None,
    kernel_size=1,
    padding=Padding.REFLECT,
    logarithm=False,
    stencil=Stencil(reach=1, corners=4),
    margin=(0, 0),
    least_det=1e-4,
    largest_component=1.5,
    score_at_step=True,
    clip_infinity=True,
    missing=None,
)
ARGMAX = _none(
    name="ARGMAX",
    source="numpy: argmax",
    summary="the integer peak, for any number of axes; no blur.",
    dims=(1, 2, 3),
    missing=None,
)

_RULES = tuple(value for value in vars().values() if isinstance(value, Rule))
PUBLISHED = tuple(rule for rule in _RULES if rule is not GUARDED)

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    *sorted(("PUBLISHED", *(rule.name for rule in _RULES))),
    "COMPACT",
    "PORTING",
    "TAYLOR",
    "Padding",
    "Port",
    "Rescale",
    "Rule",
    "Stencil",
]


def _bullets(lines: list[str]) -> str:
    return "\n".join(
        textwrap.fill(f"- {line}", 96, subsequent_indent="  ", break_on_hyphens=False)
        for line in lines
    )


if __doc__:  # Python leaves it out on request
    __doc__ = __doc__.replace(
        "{rules}", _bullets([f"``{rule.name}``: {rule.summary}" for rule in _RULES])
    ).replace("{porting}", textwrap.indent(_bullets([port.text for port in PORTING]), "  "))
