"""Heatmaps of a real network for a real photograph. See its README.md for the sources and
licences.
"""

from __future__ import annotations

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
    """Heatmaps, and the photograph that they belong to.

    Attributes:
        heatmaps: ``[B, J, H, W]`` float16, for the shipped sample ``[1, 18, 32, 32]``.
        image: ``[H, W, C]`` uint8, RGB, for the shipped sample ``[256, 256, 3]``.
        stride: image pixels for each heatmap pixel. Heatmap pixel i covers the image pixels
            ``stride i`` to ``stride i + stride - 1``.
        joints: the names of the 18 joints.

    Example:
        >>> from dark_jax import samples
        >>> sample = samples.load()
        >>> sample.heatmaps.shape, sample.image.shape, sample.stride, sample.joints[:2]
        ((1, 18, 32, 32), (256, 256, 3), 8, ('nose', 'neck'))

    References:
        ``dark_jax/samples/README.md``.
    """

    heatmaps: np.ndarray
    image: np.ndarray
    stride: int
    joints: tuple[str, ...]


def load() -> Sample:
    """Load the shipped sample: OpenPose MobileNet-thin on NASA's portrait of Eileen Collins.

    Returns:
        A :class:`Sample`.

    Raises:
        FileNotFoundError: the file is missing from the installation.

    Example:
        >>> import dark_jax
        >>> from dark_jax import samples
        >>> sample = samples.load()
        >>> keypoints = dark_jax.decode(sample.heatmaps)
        >>> left_eye = keypoints.coords[0, sample.joints.index("left eye")]
        >>> ((left_eye + 0.5) * sample.stride - 0.5).astype(int).tolist()  # in image pixels
        [123, 51]

    References:
        Sources and licences are in ``dark_jax/samples/README.md``.
    """
    file = resources.files("dark_jax.samples") / "astronaut_openpose_thin.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        return Sample(arrays["heatmaps"], arrays["image"], stride=8, joints=_JOINTS)
