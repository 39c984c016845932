"""The reference in plain NumPy and OpenCV, float64, one map at a time, from its rules."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

FLOOR = 1e-10


@dataclass(frozen=True)
class Answer:
    """What the reference makes of one map, and how well determined that is."""

    peak: tuple[int, int]
    maxval: np.floating[Any]
    coords: np.ndarray
    refined: bool
    step: float = 0.0
    eigenvalue: float = np.inf
    clamped: bool = False


def get_max_preds(heatmap: np.ndarray) -> tuple[int, int, np.floating[Any]]:
    """First argmax in row-major order, (0, 0) unless the maximum is above zero."""
    y, x = divmod(int(np.argmax(heatmap)), heatmap.shape[1])
    maxval = heatmap.max()
    return (x, y, maxval) if maxval > 0 else (0, 0, maxval)


def gaussian_blur(heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """Zero padding, OpenCV's blur, and the old maximum restored; a kernel of 1 blurs nothing."""
    import cv2

    heatmap = heatmap.astype(np.float64)
    if kernel == 1:
        return heatmap
    pad = (kernel - 1) // 2
    with np.errstate(all="ignore"):
        blurred = cv2.GaussianBlur(np.pad(heatmap, pad), (kernel, kernel), 0)[pad:-pad, pad:-pad]
        return blurred * (heatmap.max() / blurred.max())


def derivatives(v: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradient ``[2]`` and Hessian ``[2, 2]`` of a log map, second differences of stride 2."""
    gradient = 0.5 * np.array([v[y, x + 1] - v[y, x - 1], v[y + 1, x] - v[y - 1, x]])
    dxx = 0.25 * (v[y, x + 2] - 2 * v[y, x] + v[y, x - 2])
    dyy = 0.25 * (v[y + 2, x] - 2 * v[y, x] + v[y - 2, x])
    dxy = 0.25 * (v[y + 1, x + 1] - v[y - 1, x + 1] - v[y + 1, x - 1] + v[y - 1, x - 1])
    return gradient, np.array([[dxx, dxy], [dxy, dyy]])


def interior(x: int, y: int, shape: tuple[int, ...]) -> bool:
    return 1 < x < shape[1] - 2 and 1 < y < shape[0] - 2


def taylor(log_map: np.ndarray, coord: tuple[float, float]) -> tuple[np.ndarray, dict[str, Any]]:
    """The unguarded step, and what decided it."""
    x, y = int(coord[0]), int(coord[1])
    coords = np.array(coord, dtype=np.float64)
    if not interior(x, y, log_map.shape):
        return coords, {"refined": False}
    with np.errstate(all="ignore"):
        gradient, hessian = derivatives(log_map, x, y)
        determinant = hessian[0, 0] * hessian[1, 1] - hessian[0, 1] * hessian[0, 1]
    if determinant == 0:
        return coords, {"refined": False, "eigenvalue": 0.0}
    if not np.isfinite(determinant):
        return coords * np.nan, {"refined": True, "eigenvalue": np.nan}
    adjugate = np.array([[hessian[1, 1], -hessian[0, 1]], [-hessian[0, 1], hessian[0, 0]]])
    step = -adjugate @ gradient / determinant
    return coords + step, {
        "refined": True,
        "step": float(np.linalg.norm(step)),
        "eigenvalue": float(np.abs(np.linalg.eigvalsh(hessian)).min()),
    }


def get_final_preds(heatmap: np.ndarray, kernel: int) -> Answer:
    """Peak, blur, log, step."""
    x, y, maxval = get_max_preds(heatmap)
    blurred = gaussian_blur(heatmap, kernel)
    with np.errstate(all="ignore"):
        log_map = np.log(np.maximum(blurred, FLOOR))
    coords, info = taylor(log_map, (x, y))
    stencil = blurred[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
    clamped = bool((stencil <= FLOOR).any())
    return Answer(peak=(x, y), maxval=maxval, coords=coords, clamped=clamped, **info)


def answers(maps: np.ndarray, kernel: int) -> dict[str, np.ndarray]:
    """The fields of :class:`Answer` for maps ``[N, H, W]``, each an array of N."""
    each = [get_final_preds(heatmap, kernel) for heatmap in maps]
    return {
        field.name: np.array([getattr(a, field.name) for a in each]) for field in fields(Answer)
    }
