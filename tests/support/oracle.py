"""The reference in float64 NumPy, written from its source code, and what a peak is.

The functions take one map at a time.
"""

import itertools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

FLOOR = 1e-10


@dataclass(frozen=True)
class Answer:
    """The result of the reference for one map, and how well determined it is."""

    peak: tuple[int, ...]
    maxval: np.floating[Any]
    coords: np.ndarray
    refined: bool
    step: float = 0.0
    eigenvalue: float = np.inf
    clamped: bool = False


def get_max_preds(heatmap: np.ndarray) -> tuple[int, int, np.floating[Any]]:
    """The first argmax in row-major order, or (0, 0) if the maximum is not above zero."""
    y, x = divmod(int(np.argmax(heatmap)), heatmap.shape[1])
    maxval = heatmap.max()
    return (x, y, maxval) if maxval > 0 else (0, 0, maxval)


def gaussian_blur(heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """OpenCV's blur with zero padding, rescaled to the old maximum. A kernel of 1 does not blur."""
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
    """The coordinates after the unguarded step, and the values that decided it."""
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
    """The peak, the blur, the logarithm and the step of the reference for one map."""
    x, y, maxval = get_max_preds(heatmap)
    blurred = gaussian_blur(heatmap, kernel)
    with np.errstate(all="ignore"):
        log_map = np.log(np.maximum(blurred, FLOOR))
    coords, info = taylor(log_map, (x, y))
    stencil = blurred[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
    clamped = bool((stencil <= FLOOR).any())
    return Answer(peak=(x, y), maxval=maxval, coords=coords, clamped=clamped, **info)


def answers(maps: np.ndarray, kernel: int) -> dict[str, np.ndarray]:
    """The fields of :class:`Answer` for maps ``[N, ...]``, each an array of N."""
    return columns([get_final_preds(heatmap, kernel) for heatmap in maps])


def columns(each: list[Answer]) -> dict[str, np.ndarray]:
    return {
        field.name: np.array([getattr(a, field.name) for a in each]) for field in fields(Answer)
    }


def flat_top(heatmap: np.ndarray, reach: int = 7) -> np.ndarray:
    """``[n, ndim]`` indices of the pixels that tie with a map's first maximum and touch it.

    They touch it through tied neighbours, diagonal ones included, within ``reach`` of the first
    maximum. They are in row-major order.
    """
    first = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    tied, waiting = {first}, [first]
    while waiting:
        at = waiting.pop()
        for step in itertools.product((-1, 0, 1), repeat=heatmap.ndim):
            there = tuple(a + b for a, b in zip(at, step, strict=True))
            near = all(abs(a - b) <= reach for a, b in zip(there, first, strict=True))
            inside = all(0 <= a < size for a, size in zip(there, heatmap.shape, strict=True))
            if near and inside and there not in tied and heatmap[there] == heatmap[first]:
                tied.add(there)
                waiting.append(there)
    return np.array(sorted(tied))


def middle(heatmap: np.ndarray) -> np.ndarray:
    """``[ndim]`` (x, y, ...), the first of the pixels of the flat top nearest to its centroid.

    It is the first maximum if the map is nowhere above zero or holds a NaN.
    """
    if not heatmap.max() > 0:
        return np.array(np.unravel_index(np.argmax(heatmap), heatmap.shape))[::-1]
    tied = flat_top(heatmap)
    # The distances are integers, so that equal distances compare as equal.
    distances = ((len(tied) * tied - tied.sum(axis=0)) ** 2).sum(axis=1)
    return tied[distances.argmin()][::-1]


def peaks(heatmap: np.ndarray, *, threshold: float, distance: int) -> list[tuple[int, ...]]:
    """The indices of the peaks of one map of any dimension, in row-major order, by definition.

    A peak is above the threshold and above zero, and is the maximum of the box around it. Of equal
    pixels in one box, or on one plateau (touching pixels of the same value, each the maximum of its
    box), only the first in row-major order is a peak. A pixel loses only to a peak.
    """

    def around(index: tuple[int, ...], radius: int) -> list[tuple[int, ...]]:
        sides = zip(index, heatmap.shape, strict=True)
        ranges = [range(max(at - radius, 0), min(at + radius + 1, size)) for at, size in sides]
        return list(itertools.product(*ranges))

    pixels = list(np.ndindex(heatmap.shape))
    highest = {p: heatmap[p] == max(heatmap[q] for q in around(p, distance)) for p in pixels}
    found, taken = [], set()
    for p in pixels:
        lost = p in taken or any(q in found for q in around(p, distance))
        if lost or not highest[p] or not heatmap[p] > max(threshold, 0):
            continue
        found.append(p)
        waiting = [p]
        while waiting:
            for q in around(waiting.pop(), 1):
                if q not in taken and highest[q] and heatmap[q] == heatmap[p]:
                    taken.add(q)
                    waiting.append(q)
    return found
