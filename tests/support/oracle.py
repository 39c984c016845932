"""The reference and the published rules in float64 NumPy, written from their source code.

The functions take one map at a time.
"""

import dataclasses
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


def _coefficients(rule: str, kernel: int) -> np.ndarray:
    """The kernel of OpenCV (4 at size 9), scipy (sigma 0.8) or torchvision (OpenCV's sigma)."""
    tables = {3: [1, 2, 1], 5: [1, 4, 6, 4, 1], 7: [1, 3.5, 7, 9, 7, 3.5, 1]}
    sigma = 0.8 if rule == "HF_VITPOSE" else 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    x = np.arange(kernel) - (kernel - 1) / 2
    taps = np.exp(-0.5 * x * x / sigma**2)
    if kernel in tables and rule not in ("HF_VITPOSE", "SAPIENS2"):
        taps = np.array(tables[kernel], dtype=np.float64)
    return taps / taps.sum()


def _blurred(rule: str, heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """Blur a map as the rule does, and rescale it if the rule does."""
    mode: Any = {"VITPOSE": "reflect", "HF_VITPOSE": "symmetric"}.get(rule, "constant")
    taps = _coefficients(rule, kernel)
    blurred = heatmap.astype(np.float64)
    for axis in range(heatmap.ndim):
        pad = [(0, 0)] * heatmap.ndim
        pad[axis] = (kernel // 2, kernel // 2)
        padded = np.pad(blurred, pad, mode=mode)
        blurred = np.apply_along_axis(lambda row: np.convolve(row, taps, "valid"), axis, padded)
    if mode != "constant" or (rule == "SAPIENS2" and not blurred.max() > 0):
        return blurred
    with np.errstate(all="ignore"):
        return blurred * (heatmap.max().astype(np.float64) / blurred.max())


def _compact(v: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """UDP's gradient and Hessian. The edge pixels are repeated outside the map."""
    v = np.pad(v, 1, mode="edge")
    c, e, s = v[y + 1, x + 1], v[y + 1, x + 2], v[y + 2, x + 1]
    w, n, se, nw = v[y + 1, x], v[y, x + 1], v[y + 2, x + 2], v[y, x]
    dxy = 0.5 * (se - e - s + 2 * c - w - n + nw)
    gradient = 0.5 * np.array([e - w, s - n])
    return gradient, np.array([[e - 2 * c + w, dxy], [dxy, s - 2 * c + n]])


def _stepped(
    peak: tuple[int, ...], gradient: np.ndarray, hessian: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    eigenvalue = float(np.abs(np.linalg.eigvalsh(hessian)).min())
    step = -np.linalg.solve(hessian, gradient)
    info = {"refined": True, "step": float(np.linalg.norm(step)), "eigenvalue": eigenvalue}
    return np.array(peak) + step, info


def published(rule: str, heatmap: np.ndarray, kernel: int) -> Answer:
    """The result of a published rule for one map ``[H, W]`` (``[W]`` for SimCC)."""
    index = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    peak, maxval = tuple(int(i) for i in reversed(index)), heatmap.max()
    if not maxval > 0:
        missing = 0.0 if rule in ("DARKPOSE", "HRNET") else -1.0
        return Answer(peak, maxval, np.full(heatmap.ndim, missing), False)
    unrefined = Answer(peak, maxval, np.array(peak, dtype=np.float64), False)
    if rule == "HRNET":
        x, y = peak
        if not (1 < x < heatmap.shape[1] - 1 and 1 < y < heatmap.shape[0] - 1):
            return unrefined
        signs = np.sign(
            [heatmap[y, x + 1] - heatmap[y, x - 1], heatmap[y + 1, x] - heatmap[y - 1, x]]
        )
        return Answer(peak, maxval, peak + 0.25 * signs, False)

    blurred = _blurred(rule, heatmap, kernel)
    low, high = (FLOOR, np.inf) if rule in ("DARKPOSE", "MMPOSE_DARK") else (1e-3, 50.0)
    log_map = np.log(np.clip(blurred, low, high))
    if rule == "MMPOSE_SIMCC_DARK":
        v = np.pad(log_map, 2, mode="edge")[peak[0] : peak[0] + 5]
        gradient = np.array([0.5 * (v[3] - v[1])])
        hessian = np.array([[1e-9 + 0.25 * (v[4] - 2 * v[2] + v[0])]])
        near = blurred[max(peak[0] - 2, 0) : peak[0] + 3]
    else:
        x, y = peak
        taylor_2 = rule in ("DARKPOSE", "MMPOSE_DARK")
        if taylor_2 and not interior(x, y, heatmap.shape):
            return unrefined
        gradient, hessian = derivatives(log_map, x, y) if taylor_2 else _compact(log_map, x, y)
        if not taylor_2:
            hessian = hessian + np.finfo(np.float32).eps * np.eye(2)
        elif hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2 == 0:
            return dataclasses.replace(unrefined, eigenvalue=0.0)
        reach = 2 if taylor_2 else 1
        near = blurred[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    coords, info = _stepped(peak, gradient, hessian)
    clamped = bool(((near <= low) | (near >= high)).any())
    return Answer(peak, maxval, coords, clamped=clamped, **info)


def answers(maps: np.ndarray, kernel: int, rule: str | None = None) -> dict[str, np.ndarray]:
    """The fields of :class:`Answer` for maps ``[N, ...]``, each an array of N."""
    if rule is None:
        each = [get_final_preds(heatmap, kernel) for heatmap in maps]
    else:
        each = [published(rule, heatmap, kernel) for heatmap in maps]
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
