"""Decoders and blurs that people use today. Each loads what it needs, or raises ImportError."""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tests.support import homes

_T = TypeVar("_T")
Peer = Callable[[np.ndarray], np.ndarray]


def loaded(load: Callable[[], _T]) -> _T | None:
    """Return the peer, or None if a package that it needs is not installed."""
    try:
        return load()
    except ImportError:
        return None


def home(rule: str, kernel: int) -> Peer:
    """The original implementation of a published rule."""
    decode = homes.HOMES[rule]()
    return lambda maps: decode(maps, kernel)


def mmpose_simcc(rule: str) -> Callable[[tuple[np.ndarray, ...]], np.ndarray]:
    """Mmpose's decoder of rows ``[N, K, W]`` and ``[N, K, H]``, with and without DARK."""
    module = homes.mmpose()

    def decode(rows: tuple[np.ndarray, ...]) -> np.ndarray:
        coords, _ = module.get_simcc_maximum(*rows)
        if rule == "MMPOSE_SIMCC_DARK":
            for axis, bins in enumerate(rows):
                coords[..., axis] = module.refine_simcc_dark(coords[..., axis], bins.copy(), 37)
        return coords / 2

    return decode


def opencv_loop(kernel: int) -> Peer:
    """The reference as people run it: argmax and logarithm at once, the rest map by map."""
    cv2 = importlib.import_module("cv2")
    edge = (kernel - 1) // 2

    def decode(maps: np.ndarray) -> np.ndarray:
        height, width = maps.shape[-2:]
        flat = maps.reshape(-1, height, width).copy()
        places, highest = flat.reshape(len(flat), -1).argmax(1), flat.max((1, 2))
        coords = np.stack(np.divmod(places, width)[::-1], axis=-1).astype(np.float32)
        coords *= (highest > 0)[:, None]
        for heatmap, top in zip(flat, highest, strict=True):
            padded = np.zeros((height + 2 * edge, width + 2 * edge))
            padded[edge:-edge, edge:-edge] = heatmap
            blurred = cv2.GaussianBlur(padded, (kernel, kernel), 0)
            heatmap[:] = blurred[edge:-edge, edge:-edge]
            heatmap *= top / heatmap.max()
        logs = np.log(np.maximum(flat, 1e-10))
        for at, v in zip(coords, logs, strict=True):
            x, y = int(at[0]), int(at[1])
            if 1 < x < width - 2 and 1 < y < height - 2:
                dx, dy = 0.5 * (v[y, x + 1] - v[y, x - 1]), 0.5 * (v[y + 1, x] - v[y - 1, x])
                dxx = 0.25 * (v[y, x + 2] - 2 * v[y, x] + v[y, x - 2])
                dyy = 0.25 * (v[y + 2, x] - 2 * v[y, x] + v[y - 2, x])
                dxy = v[y + 1, x + 1] - v[y - 1, x + 1] - v[y + 1, x - 1] + v[y - 1, x - 1]
                hessian = np.array([[dxx, 0.25 * dxy], [0.25 * dxy, dyy]])
                if dxx * dyy - (0.25 * dxy) ** 2 != 0:
                    at -= np.linalg.inv(hessian) @ np.array([dx, dy])
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
    """OpenCV blurs and rescales whole maps, one by one, with as little other work as possible."""
    cv2 = importlib.import_module("cv2")

    def blur(maps: np.ndarray) -> np.ndarray:
        flat = maps.reshape(-1, *maps.shape[-2:])
        found = np.empty_like(flat)
        for heatmap, blurred in zip(flat, found, strict=True):
            cv2.GaussianBlur(
                heatmap, (kernel, kernel), 0, dst=blurred, borderType=cv2.BORDER_CONSTANT
            )
            blurred *= heatmap.max() / blurred.max()
        return found.reshape(maps.shape)

    return blur


def dm_pix_blur(kernel: int) -> Peer:
    """The jitted blur of dm-pix, with joints as channels.

    It restores the old maximum, as users of OpenCV do.
    """
    jax, pix = map(importlib.import_module, ("jax", "dm_pix"))
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8

    @jax.jit
    def blur(maps: Any) -> Any:
        blurred = pix.gaussian_blur(maps, sigma, kernel, channel_axis=-3)
        return blurred * (maps.max((-2, -1), keepdims=True) / blurred.max((-2, -1), keepdims=True))

    return lambda maps: np.asarray(blur(maps))
