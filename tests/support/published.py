"""The published rules in float64 NumPy, written from their source code, one map at a time."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support.oracle import FLOOR, Answer, columns, derivatives, interior

# What the blur sees outside the map, where it is not zero.
MODES = {"VITPOSE": "reflect", "HF_VITPOSE": "symmetric", "UDP_POSE": "reflect"}


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
    mode: Any = MODES.get(rule, "constant")
    taps = _coefficients(rule, kernel)
    blurred = heatmap.astype(np.float64)
    for axis in range(heatmap.ndim):
        pad = [(0, 0)] * heatmap.ndim
        pad[axis] = (kernel // 2, kernel // 2)
        padded = np.pad(blurred, pad, mode=mode)
        blurred = np.apply_along_axis(lambda row: np.convolve(row, taps, "valid"), axis, padded)
    if rule in ("VITPOSE", "HF_VITPOSE") or (rule == "SAPIENS2" and not blurred.max() > 0):
        return blurred
    with np.errstate(all="ignore"):
        if rule == "UDP_POSE":
            blurred -= blurred.min()  # the original divides by zero if all values are equal
            return blurred * (heatmap.max() / max(blurred.max(), 1e-300))
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


def signs(heatmap: np.ndarray, x: int, y: int) -> np.ndarray:
    """The direction of the higher neighbour along x and y."""
    return np.sign([heatmap[y, x + 1] - heatmap[y, x - 1], heatmap[y + 1, x] - heatmap[y - 1, x]])


def quarter(heatmap: np.ndarray, peak: tuple[int, ...], *, of_its_own: bool) -> np.ndarray:
    """The step of HRNET, or that of mmpose's MSRA, where each axis has a guard of its own."""
    (x, y), (height, width) = peak, heatmap.shape
    along_x, along_y = 1 < x < width - 1, 1 < y < height - 1
    if of_its_own:
        along_x, along_y = along_x and 0 < y < height, along_y and 0 < x < width
    elif not (along_x and along_y):
        return np.zeros(2)
    dx = heatmap[y, x + 1] - heatmap[y, x - 1] if along_x else 0
    dy = heatmap[y + 1, x] - heatmap[y - 1, x] if along_y else 0
    return 0.25 * np.sign([dx, dy])


def megvii(blurred: np.ndarray) -> Answer:
    """MegviiHeatmap.decode. Places that rounding in float32 may change have the eigenvalue 0."""
    y, x = np.unravel_index(int(np.argmax(blurred)), blurred.shape)
    score = blurred.max()
    second = np.partition(blurred.reshape(-1), -2)[-2]
    clear = score - second
    coords = np.array([x, y], np.float64)
    if 1 < x < blurred.shape[1] - 1 and 1 < y < blurred.shape[0] - 1:
        across = [blurred[y, x + 1] - blurred[y, x - 1], blurred[y + 1, x] - blurred[y - 1, x]]
        clear = min(clear, *np.abs(across))
        coords += 0.25 * np.sign(across) + 0.5
    eigenvalue = np.inf if clear > 2e-6 * abs(score) else 0.0
    found = score / 255 + 0.5
    missing = np.full(2, -1.0)
    return Answer((int(x), int(y)), found, coords if score > 0 else missing, False, 0.0, eigenvalue)


def fan(heatmap: np.ndarray, peak: tuple[int, ...]) -> Answer:
    """get_preds_fromhm, whose guard is 63, with the sides of the map instead."""
    (x, y), coords = peak, np.array(peak) + 0.5
    if 0 < x < heatmap.shape[1] - 1 and 0 < y < heatmap.shape[0] - 1:
        coords += 0.25 * signs(heatmap, x, y)
    return Answer(peak, heatmap.max(), coords, False)


def sleap(heatmap: np.ndarray, peak: tuple[int, ...]) -> Answer:
    """The centroid of the 5 x 5 values around the peak, with zeros outside the map."""
    x, y = peak
    window = np.pad(heatmap, 2)[y : y + 5, x : x + 5]
    total, size, coords = window.sum(), np.abs(window).sum(), np.array(peak, np.float64)
    offsets = np.arange(-2, 3)
    if total > 0:
        coords += np.array([window.sum(0) @ offsets, window.sum(1) @ offsets]) / total
    eigenvalue = 1.0 if abs(total) > 0.01 * size or size == 0 else 0.0
    return Answer(peak, heatmap.max(), coords, False, 0.0, eigenvalue)


def caffe2(heatmap: np.ndarray, peak: tuple[int, ...]) -> Answer:
    """The quadratic of the 3 x 3 values around the peak, mirrored at the edges of the map."""
    x, y = peak
    f = np.pad(heatmap, 1, mode="reflect")[y : y + 3, x : x + 3]
    b = -0.5 * np.array([f[1, 2] - f[1, 0], f[2, 1] - f[0, 1]])
    mixed = 0.25 * (f[2, 2] - f[2, 0] - f[0, 2] + f[0, 0])
    a = np.array(
        [[f[1, 0] - 2 * f[1, 1] + f[1, 2], mixed], [mixed, f[0, 1] - 2 * f[1, 1] + f[2, 1]]]
    )
    determinant, size = np.linalg.det(a), np.abs(f).max()
    # Rounding decides whether a determinant this close to the limit is below it.
    unclear = abs(abs(determinant) - 1e-4) < 1e-6 * max(size, 1e-4) ** 2
    if abs(determinant) < 1e-4:
        coords, score = np.array(peak, np.float64), f[1, 1]
        return Answer(peak, score, coords, False, 0.0, 0.0 if unclear else np.inf)
    step = np.linalg.solve(a, b)
    largest = np.abs(step).max()
    if largest > 1.5:
        step *= 1.5 / largest
    eigenvalue = 0.0 if unclear else float(np.abs(np.linalg.eigvalsh(a)).min() / size)
    score = f[1, 1] - b @ step + 0.5 * step @ a @ step
    return Answer(peak, score, peak + step, True, float(np.linalg.norm(step)), eigenvalue)


def argmax(heatmap: np.ndarray, peak: tuple[int, ...]) -> Answer:
    return Answer(peak, heatmap.max(), np.array(peak, np.float64), False)


WITHOUT_SENTINEL: dict[str, Callable[[np.ndarray, tuple[int, ...]], Answer]] = {
    "FAN": fan,
    "SLEAP_INTEGRAL": sleap,
    "CAFFE2": caffe2,
    "ARGMAX": argmax,
}


def published(rule: str, heatmap: np.ndarray, kernel: int) -> Answer:
    """The result of a published rule for one map ``[H, W]`` (``[W]`` for SimCC)."""
    index = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    peak, maxval = tuple(int(i) for i in reversed(index)), heatmap.max()
    if rule in WITHOUT_SENTINEL:
        return WITHOUT_SENTINEL[rule](heatmap.astype(np.float64), peak)
    if not maxval > 0:
        missing = 0.0 if rule in ("DARKPOSE", "HRNET", "UDP_POSE") else -1.0
        return Answer(peak, maxval, np.full(heatmap.ndim, missing), False)
    unrefined = Answer(peak, maxval, np.array(peak, dtype=np.float64), False)
    if rule == "MMPOSE_SIMCC":
        return unrefined
    if rule in ("HRNET", "MMPOSE_MSRA"):
        step = quarter(heatmap, peak, of_its_own=rule == "MMPOSE_MSRA")
        return Answer(peak, maxval, peak + step, False)
    if rule == "MEGVII":
        return megvii(_blurred(rule, heatmap, kernel))

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
        if not taylor_2 and rule != "UDP_POSE":
            hessian = hessian + np.finfo(np.float32).eps * np.eye(2)
        elif hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2 == 0:
            return dataclasses.replace(unrefined, eigenvalue=0.0)
        reach = 2 if taylor_2 else 1
        near = blurred[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    coords, info = _stepped(peak, gradient, hessian)
    clamped = bool(((near <= low) | (near >= high)).any())
    return Answer(peak, maxval, coords, clamped=clamped, **info)


def answers(maps: np.ndarray, kernel: int, rule: str) -> dict[str, np.ndarray]:
    """The fields of :class:`Answer` for maps ``[N, ...]``, each an array of N."""
    return columns([published(rule, heatmap, kernel) for heatmap in maps])
