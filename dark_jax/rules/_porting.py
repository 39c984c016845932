"""How to decode the networks of other code bases, as rows of data."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Port:
    """What decodes the heatmaps of a code base as its own decoder does.

    Attributes:
        source: the code base, and its codec if it has several.
        decode: the call, for heatmaps ``h``; empty if dark_jax has no such decoder.
        convention: the name of the row in ``dark_jax.conventions``; empty if there is none.
        shift: ``shift`` of ``flip_heatmaps`` in the published flip test; None if it has none.
        note: what else to know.
        common: whether it is one of the commonest, which the README lists.

    Example:
        >>> from dark_jax import rules
        >>> [port.decode for port in rules.PORTING if port.source == "HRNet, SimpleBaseline"]
        ['decode(h, rule=rules.HRNET)']

    References:
        The code and the configurations of the code bases.
    """

    source: str
    decode: str
    _: KW_ONLY
    convention: str = ""
    shift: int | None = None
    note: str = ""
    common: bool = False

    @property
    def text(self) -> str:
        """The row in one line."""
        parts = [f"``{self.decode}``" if self.decode else "not served"]
        parts += [f"convention ``{self.convention}``"] if self.convention else []
        parts += [f"flip ``shift={self.shift}``"] if self.shift is not None else []
        parts += [self.note] if self.note else []
        return f"{self.source}: {'; '.join(parts)}"


_SIMCC = (
    "``map_size`` is the size of the input; mirror ``x_bins`` only, and exchange the pairs of both"
)
_COORDINATES = "the network returns coordinates, so there is nothing to decode"

PORTING = (
    Port("DarkPose", "decode(h, rule=rules.DARKPOSE)", convention="DARKPOSE", shift=0, common=True),
    Port(
        "HRNet, SimpleBaseline",
        "decode(h, rule=rules.HRNET)",
        convention="HRNET",
        shift=1,
        common=True,
    ),
    Port(
        "mmpose, MSRAHeatmap",
        "decode(h, rule=rules.MMPOSE_MSRA)",
        convention="MMPOSE",
        shift=1,
        note="199 of the 360 heatmap and SimCC configurations",
        common=True,
    ),
    Port(
        "mmpose, MSRAHeatmap(unbiased=True)",
        "decode(h, rule=rules.MMPOSE_DARK)",
        convention="MMPOSE",
        shift=1,
        note="``kernel_size`` is ``blur_kernel_size``",
        common=True,
    ),
    Port(
        "mmpose, UDPHeatmap",
        "decode(h, rule=rules.MMPOSE_UDP)",
        convention="UDP",
        shift=0,
        note="``kernel_size`` is ``blur_kernel_size``",
        common=True,
    ),
    Port(
        'mmpose, UDPHeatmap(heatmap_type="combined")',
        "",
        convention="UDP",
        note="needs its offset maps, which dark_jax does not decode yet",
    ),
    Port(
        "mmpose, MegviiHeatmap (MSPN, RSN)",
        "decode(h, rule=rules.MEGVII)",
        convention="MMPOSE",
        shift=0,
        note="``kernel_size`` is that of the codec",
    ),
    Port(
        "mmpose, SimCCLabel (RTMPose, DWPose)",
        "decode_simcc(x_bins, y_bins)",
        convention="MMPOSE",
        note=_SIMCC,
        common=True,
    ),
    Port(
        "mmpose, SimCCLabel(decode_visibility=True) (RTMW)",
        "decode_simcc(x_bins, y_bins)",
        convention="MMPOSE",
        note=f"``simcc_visibility`` gives the second score; {_SIMCC}",
    ),
    Port(
        "mmpose, SimCCLabel(use_dark=True)",
        "decode_simcc(x_bins, y_bins, rule=rules.MMPOSE_SIMCC_DARK)",
        convention="MMPOSE",
        note=_SIMCC,
    ),
    Port(
        "mmpose, IntegralRegressionLabel",
        "decode_soft_argmax(h, temperature=1 / beta, debias=debias)",
        convention="MMPOSE",
        note="``beta`` and ``debias`` are those of the head; its flip test averages coordinates",
    ),
    Port(
        "mmpose, DecoupledHeatmap (CID)",
        "decode(h, rule=rules.MMPOSE_MSRA)",
        convention="MMPOSE",
        shift=0,
        note="multiply the scores by those of the instances",
    ),
    Port(
        "mmpose, Hand3DHeatmap",
        "decode(h, rule=rules.ARGMAX, axes=(-3, -2, -1))",
        convention="MMPOSE",
        note="for x and y; the bounds of the codec make millimetres of z; where the status is "
        "``NO_PEAK``, mmpose has -1",
    ),
    Port(
        "mmpose, AssociativeEmbedding",
        "",
        convention="MMPOSE",
        shift=0,
        note="``decode_peaks`` finds the joints; dark_jax does not group them by their tags",
    ),
    Port("mmpose, SPR (DEKR)", "", note="joints are offsets from centres, not peaks of heatmaps"),
    Port("mmpose, RegressionLabel, EDPoseLabel, MotionBERTLabel", "", note=_COORDINATES),
    Port("mmpose, ImagePoseLifting, VideoPoseLifting", "", note=_COORDINATES),
    Port("mmpose, YOLOXPoseAnnotationProcessor (YOLOX-Pose, RTMO)", "", note=_COORDINATES),
    Port(
        "rtmlib, RTMPose",
        'decode_simcc(x_bins, y_bins, score="mean")',
        convention="MMPOSE",
        note=f'older versions have ``score="min"``; {_SIMCC}',
    ),
    Port(
        "rtmlib, ViTPose",
        "decode(h, rule=rules.VITPOSE)",
        convention="UDP",
        note="crop with ``MMPOSE``, map back with ``UDP``",
    ),
    Port("ViTPose", "decode(h, rule=rules.VITPOSE)", convention="UDP", shift=0, common=True),
    Port(
        "Hugging Face, VitPose",
        "decode(h, rule=rules.HF_VITPOSE)",
        convention="UDP",
        shift=0,
        common=True,
    ),
    Port(
        "Hugging Face, Sapiens2",
        "decode(h, rule=rules.SAPIENS2)",
        convention="UDP",
        shift=0,
        common=True,
    ),
    Port(
        "UDP-Pose, Gaussian targets",
        "decode(h, rule=rules.UDP_POSE)",
        convention="UDP",
        shift=0,
        common=True,
    ),
    Port(
        "UDP-Pose, offset targets",
        "",
        convention="UDP",
        note="needs its offset maps, which dark_jax does not decode yet",
    ),
    Port(
        "face-alignment (FAN)", "decode(h, rule=rules.FAN)", convention="FAN", shift=0, common=True
    ),
    Port(
        "STAR, ADNet",
        "decode_soft_argmax(jnp.log(h), temperature=1.0)",
        note="the centroid of a map that is nowhere negative; the status is ``NO_PEAK`` for maxima "
        "up to 1",
    ),
    Port(
        "DeepLabCut 2 and 3",
        "decode_fit(h, sigma=sigma)",
        convention="DEEPLABCUT",
        shift=0,
        note="leaves out its offset maps, which dark_jax does not decode yet",
        common=True,
    ),
    Port(
        'SLEAP, refinement="integral"',
        "decode(h, rule=rules.SLEAP_INTEGRAL)",
        convention="SLEAP",
        shift=1,
        note="apply its threshold of 0.2 to the scores; without refinement, ``rules.ARGMAX``",
        common=True,
    ),
    Port(
        "Caffe2, Android NNAPI (Mask R-CNN)",
        "decode(h, rule=rules.CAFFE2)",
        note="in the image: box corner plus ``(coords + 0.5) * max(box side, 1) / map side``",
    ),
    Port(
        "Detectron2 (Keypoint R-CNN)",
        "",
        note="it resizes each map to its box by torch's bicubic, and takes the highest pixel: do "
        "this with torch, then use ``rules.ARGMAX`` and add 0.5",
    ),
    Port(
        "MediaPipe (BlazePose)",
        "",
        note="it moves regressed landmarks to a centroid of the heatmap near them, not to a peak",
    ),
    Port(
        "your own resize (OpenCV, torch)",
        "decode(h)",
        convention="HALF_PIXEL",
        shift=0,
        common=True,
    ),
)
