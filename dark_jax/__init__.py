"""Keypoint heatmaps to sub-pixel coordinates, and back, in JAX.

Heatmaps are ``[..., H, W]``; coordinates are ``(x, y)`` in heatmap pixels with pixel
centres at integers.
"""

from importlib.metadata import version as _version

from dark_jax import rules
from dark_jax.decode import decode, get_final_preds
from dark_jax.encode import encode
from dark_jax.fit import decode_fit
from dark_jax.gaussian import gaussian_blur
from dark_jax.keypoints import Keypoints, Status
from dark_jax.peak import get_max_preds
from dark_jax.peaks import decode_peaks
from dark_jax.sigma import estimate_sigma
from dark_jax.simcc import decode_simcc
from dark_jax.soft_argmax import decode_soft_argmax
from dark_jax.taylor import taylor

__version__ = _version("dark-jax")

__all__ = [
    "Keypoints",
    "Status",
    "decode",
    "decode_fit",
    "decode_peaks",
    "decode_simcc",
    "decode_soft_argmax",
    "encode",
    "estimate_sigma",
    "gaussian_blur",
    "get_final_preds",
    "get_max_preds",
    "rules",
    "taylor",
]
