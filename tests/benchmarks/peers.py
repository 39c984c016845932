"""What people decode and blur with today: each loads what it needs, or raises ImportError."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tests import homes, oracle

Peer = Callable[[np.ndarray], np.ndarray]


def loaded(load: Callable[[], Peer]) -> Peer | None:
    """None where what it needs is not installed."""
    try:
        return load()
    except ImportError:
        return None


def home(rule: str, kernel: int) -> Peer:
    """The live home of a published rule."""
    decode = homes.HOMES[rule]()
    return lambda maps: decode(maps, kernel)


def opencv_loop(kernel: int) -> Peer:
    """The reference as it is run, map by map, less the blur of maps it does not refine."""
    importlib.import_module("cv2")

    def decode(maps: np.ndarray) -> np.ndarray:
        flat = maps.reshape(-1, *maps.shape[-2:])
        coords = np.empty((len(flat), 2))
        for index, heatmap in enumerate(flat):
            x, y, _ = oracle.get_max_preds(heatmap)
            coords[index] = x, y
            if oracle.interior(x, y, heatmap.shape):
                blurred = oracle.gaussian_blur(heatmap, kernel)
                log_map = np.log(np.maximum(blurred, oracle.FLOOR))
                gradient, hessian = oracle.derivatives(log_map, x, y)
                coords[index] -= np.linalg.inv(hessian) @ gradient
        return coords.reshape(*maps.shape[:-2], 2)

    return decode


def kornia_soft_argmax(temperature: float) -> Peer:
    torch, kornia = map(importlib.import_module, ("torch", "kornia"))

    def decode(maps: np.ndarray) -> np.ndarray:
        return kornia.geometry.spatial_soft_argmax2d(
            torch.from_numpy(maps), temperature, normalized_coordinates=False
        ).numpy()

    return decode


def dsntnn_soft_argmax(temperature: float) -> Peer:
    torch, dsntnn = map(importlib.import_module, ("torch", "dsntnn"))

    def decode(maps: np.ndarray) -> np.ndarray:
        normalized = dsntnn.dsnt(dsntnn.flat_softmax(torch.from_numpy(maps) / temperature))
        return dsntnn.normalized_to_pixel_coordinates(normalized, maps.shape[-2:]).numpy()

    return decode


def opencv_blur(kernel: int) -> Peer:
    """Whole maps blurred and rescaled by OpenCV, map by map."""
    importlib.import_module("cv2")

    def blur(maps: np.ndarray) -> np.ndarray:
        flat = maps.reshape(-1, *maps.shape[-2:])
        return np.stack([oracle.gaussian_blur(heatmap, kernel) for heatmap in flat]).reshape(
            maps.shape
        )

    return blur


def dm_pix_blur(kernel: int) -> Peer:
    """Joints as channels, and the old maximum restored as OpenCV's users do; jitted."""
    jax, pix = map(importlib.import_module, ("jax", "dm_pix"))
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8

    @jax.jit
    def blur(maps: Any) -> Any:
        blurred = pix.gaussian_blur(maps, sigma, kernel, channel_axis=-3)
        return blurred * (maps.max((-2, -1), keepdims=True) / blurred.max((-2, -1), keepdims=True))

    return lambda maps: np.asarray(blur(maps))
