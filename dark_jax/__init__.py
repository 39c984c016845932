"""Keypoint heatmaps to sub-pixel coordinates, and back, in JAX.

Heatmaps are ``[..., H, W]``; coordinates are ``(x, y)`` in heatmap pixels with pixel
centres at integers.
"""

from importlib.metadata import version as _version

from dark_jax import coco, image, metrics, rules
from dark_jax.affine import apply_affine, invert_affine, to_image
from dark_jax.box import box_to_affine, map_to_input
from dark_jax.crop import crop
from dark_jax.decode import decode, get_final_preds
from dark_jax.encode import encode
from dark_jax.fit import decode_fit
from dark_jax.flip import flip_heatmaps, merge_flipped
from dark_jax.gaussian import gaussian_blur
from dark_jax.keypoints import Keypoints, Status
from dark_jax.peak import get_max_preds
from dark_jax.peaks import decode_peaks
from dark_jax.sigma import estimate_sigma
from dark_jax.simcc import decode_simcc
from dark_jax.soft_argmax import decode_soft_argmax
from dark_jax.store import UnreadChunksError, decode_store
from dark_jax.tables import save
from dark_jax.taylor import taylor

__version__ = _version("dark-jax")

__all__ = [
    "Keypoints",
    "Status",
    "UnreadChunksError",
    "apply_affine",
    "box_to_affine",
    "coco",
    "crop",
    "decode",
    "decode_fit",
    "decode_peaks",
    "decode_simcc",
    "decode_soft_argmax",
    "decode_store",
    "encode",
    "estimate_sigma",
    "flip_heatmaps",
    "gaussian_blur",
    "get_final_preds",
    "get_max_preds",
    "image",
    "invert_affine",
    "map_to_input",
    "merge_flipped",
    "metrics",
    "rules",
    "save",
    "taylor",
    "to_image",
]
