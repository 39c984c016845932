"""A real network's heatmaps of a real photograph; provenance and licences in README.md."""

from importlib import resources
from typing import NamedTuple

import numpy as np

__all__ = ["Sample", "load"]

_JOINTS = (
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
)


class Sample(NamedTuple):
    """Heatmaps with the photograph they belong to.

    Attributes:
        heatmaps: ``[1, 18, 32, 32]`` float16.
        image: ``[256, 256, 3]`` uint8, RGB.
        stride: image pixels per heatmap pixel; heatmap pixel i covers image pixels
            ``stride i`` to ``stride i + stride - 1``.
        joints: names of the 18 joints.
    """

    heatmaps: np.ndarray
    image: np.ndarray
    stride: int
    joints: tuple[str, ...]


def load() -> Sample:
    """The astronaut: OpenPose MobileNet-thin on NASA's portrait of Eileen Collins."""
    file = resources.files("dark_jax.samples") / "astronaut_openpose_thin.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        return Sample(arrays["heatmaps"], arrays["image"], stride=8, joints=_JOINTS)
