"""What people decode with today, where it is installed; None where it is not."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

Decoder = Callable[[np.ndarray], Any]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def opencv_loop(kernel: int) -> Decoder | None:
    """The reference as it is run, map by map, less the blur of maps it does not refine."""
    if _module("cv2") is None:
        return None
    from tests import oracle

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
        return coords

    return decode


def opencv_blur(kernel: int) -> Decoder | None:
    """Whole maps blurred and rescaled by OpenCV, map by map."""
    if _module("cv2") is None:
        return None
    from tests import oracle

    def blur(maps: np.ndarray) -> list[np.ndarray]:
        flat = maps.reshape(-1, *maps.shape[-2:])
        return [oracle.gaussian_blur(heatmap, kernel) for heatmap in flat]

    return blur


def rtmlib(kernel: int) -> Decoder | None:
    """Rtmlib's ViTPose decoder: argmax and ``post_dark_udp``, on a copy, which it overwrites."""
    module = _module("rtmlib.tools.pose_estimation.post_processings")
    if module is None:
        return None

    def decode(maps: np.ndarray) -> np.ndarray:
        maps = maps.copy()
        batch, joints, _, width = maps.shape
        flat = maps.reshape(batch, joints, -1)
        y, x = np.divmod(flat.argmax(axis=2), width)
        flat.max(axis=2)
        return module.post_dark_udp(np.stack([x, y], axis=-1).astype(np.float32), maps, kernel)

    return decode
