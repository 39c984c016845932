"""Synthetic heatmaps for every test and benchmark. The caller gives the seeds.

All generators return float32 ``[count, H, W]`` maps. Those with a known answer return
``(maps, centres [count, 2])`` with centres as (x, y).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax import Keypoints

Size = tuple[int, int]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def bound(noise: float) -> float:
    """The Cramer-Rao bound: the least standard deviation of a coordinate, for any sigma."""
    return noise * np.sqrt(2 / np.pi)


def squared_deviations(keypoints: Keypoints, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors, measured by the decoder's own covariance (Mahalanobis distances).

    They are ``[known]``, of the keypoints with a finite covariance, which a mask ``[count]`` marks.
    """
    covariance = np.asarray(keypoints.covariance, np.float64)
    known = np.asarray(np.isfinite(covariance).all(axis=(-2, -1)))
    errors = (np.asarray(keypoints.coords) - points)[known]
    inverse = np.linalg.inv(covariance[known])
    return np.einsum("ni,nij,nj->n", errors, inverse, errors), known


def centres(seed: int, count: int, size: Size, *, margin: float) -> np.ndarray:
    """Uniform sub-pixel centres, at least ``margin`` pixels from every edge."""
    height, width = size
    low, high = [margin, margin], [width - 1 - margin, height - 1 - margin]
    low, high = np.minimum(low, high), np.maximum(low, high)
    return rng(seed).uniform(low, high, (count, 2))


def draw(points: np.ndarray, size: Size, *, sigma: float, amplitude: float = 1.0) -> np.ndarray:
    """Noiseless Gaussians in float64 at ``points [count, 2]``."""
    height, width = size
    x = np.arange(width)[None, None, :] - points[:, 0, None, None]
    y = np.arange(height)[None, :, None] - points[:, 1, None, None]
    return amplitude * np.exp(-(x * x + y * y) / (2 * sigma * sigma))


def gaussians(
    seed: int,
    count: int,
    size: Size,
    *,
    sigma: float,
    noise: float = 0.0,
    amplitude: float = 1.0,
    margin: float = 3.0,
) -> tuple[np.ndarray, np.ndarray]:
    """One Gaussian per map, plus white noise of ``noise`` times its height."""
    points = centres(seed, count, size, margin=margin)
    maps = draw(points, size, sigma=sigma)
    maps += noise * rng(seed + 1).standard_normal(maps.shape)
    return (amplitude * maps).astype(np.float32), points


def border(seed: int, size: Size, *, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians that peak on every pixel of the three outermost rows and columns."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    ring = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) < 3
    points = np.stack([x[ring], y[ring]], axis=-1) + rng(seed).uniform(-0.4, 0.4, (ring.sum(), 2))
    return draw(points, size, sigma=sigma).astype(np.float32), points


def second_peak(
    seed: int, count: int, size: Size, *, sigma: float, height: float, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian with a lower one ``distance`` pixels away in a random direction."""
    points = centres(seed, count, size, margin=distance + 3)
    angle = rng(seed + 1).uniform(0, 2 * np.pi, count)
    other = points + distance * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    maps = draw(points, size, sigma=sigma) + height * draw(other, size, sigma=sigma)
    return maps.astype(np.float32), points


def crowds(
    seed: int, count: int, size: Size, *, peaks: int, separation: float, sigma: float, noise: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Maps of many Gaussians plus white noise. The highest Gaussian counts at each pixel.

    Heights are uniform in (0.4, 1). All centres are further apart than ``separation`` along some
    axis. Up to ``peaks`` of them are drawn, as many as fit. Also returns the centres ``[n, 2]``.
    """
    generator = rng(seed)
    maps, centres = [], []
    for _ in range(count):
        points = np.empty((0, 2))
        for point in generator.uniform(3, [size[1] - 4, size[0] - 4], (500, 2)):
            if len(points) < peaks and (np.abs(points - point).max(axis=1) > separation).all():
                points = np.concatenate([points, point[None]])
        heights = generator.uniform(0.4, 1, (len(points), 1, 1))
        clean = (heights * draw(points, size, sigma=sigma)).max(axis=0)
        maps.append(clean + noise * generator.standard_normal(size))
        centres.append(points)
    return np.stack(maps).astype(np.float32), centres


def noise(seed: int, count: int, size: Size, *, zero_mean: bool) -> np.ndarray:
    """White noise, either standard normal or uniform in (0, 1)."""
    generator = rng(seed)
    shape = (count, *size)
    values = generator.standard_normal(shape) if zero_mean else generator.random(shape)
    return values.astype(np.float32)


def checkerboard(seed: int, count: int, size: Size) -> np.ndarray:
    """Uniform noise of alternating sign. In every blurred value large terms cancel."""
    y, x = np.mgrid[: size[0], : size[1]]
    return noise(seed, count, size, zero_mean=False) * np.where((x + y) % 2, -1, 1).astype(
        np.float32
    )


def logits(seed: int, count: int, size: Size, *, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of Gaussians, negative nearly everywhere, as an untrained bias leaves them."""
    points = centres(seed, count, size, margin=3)
    probability = np.clip(0.9 * draw(points, size, sigma=sigma), 1e-4, None)
    return np.log(probability / (1 - probability)).astype(np.float32), points


def plateaus(seed: int, count: int, size: Size, *, levels: int) -> np.ndarray:
    """Gaussians quantised to a few levels, which have flat tops and exact ties."""
    maps, _ = gaussians(seed, count, size, sigma=3.0)
    return np.round(maps * levels).astype(np.float32) / np.float32(levels)


def cut(maps: np.ndarray, *, threshold: float) -> np.ndarray:
    """ReLU of the maps minus a share of their height, with exact zeros around the peak."""
    top = maps.max(axis=(-2, -1), keepdims=True)
    return np.maximum(maps - np.float32(threshold) * top, 0)


def on_floor(maps: np.ndarray, *, floor: float) -> np.ndarray:
    """The maps on a negative floor, as networks without an activation give them."""
    return (maps - np.float32(floor)).astype(np.float32)


def masked(maps: np.ndarray, points: np.ndarray, *, radius: float) -> np.ndarray:
    """The maps with -inf outside a disc around each centre, as after an attention mask."""
    y, x = np.mgrid[: maps.shape[-2], : maps.shape[-1]]
    squared = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return np.where(squared <= radius**2, maps, np.float32(-np.inf))


def degenerate(size: Size) -> dict[str, np.ndarray]:
    """Single maps ``[H, W]``, at least 2 x 2, on which decoders are known to break."""
    height, width = size
    full = functools.partial(np.full, size, dtype=np.float32)
    tie = full(0.1)
    tie[height // 2, width // 3] = tie[height // 2, width - 1 - width // 3] = 1.0
    tie[-1, 0] = 1.0
    flat_top = full(0.0)
    flat_top[height // 4 : -height // 4, width // 4 : -width // 4] = 0.5
    spike = full(0.0)
    spike[height // 2, width // 2] = 1.0
    signed_zero = full(-0.0)
    signed_zero[height // 2, width // 2] = 0.0
    maps = {
        "zero": full(0.0),
        "negative": -draw(np.array([[width / 2, height / 2]]), size, sigma=2.0)[0] - 1.0,
        "constant": full(0.7),
        "negative constant": full(-0.7),
        "tie": tie,
        "flat top": flat_top,
        "spike": spike,
        "signed zero": signed_zero,
        "all -inf": full(-np.inf),
        "all nan": full(np.nan),
    }
    bump = draw(np.array([[width / 2 + 0.2, height / 2 - 0.3]]), size, sigma=2.0)[0]
    middle = height // 2, width // 2
    for name, value in {"one inf": np.inf, "one -inf": -np.inf, "one nan": np.nan}.items():
        for where, pixel in {"far": (0, 0), "at the peak": middle}.items():
            maps[f"{name} {where}"] = bump.copy()
            maps[f"{name} {where}"][pixel] = value
    maps["inf before nan"] = bump.copy()
    maps["inf before nan"][0, 0], maps["inf before nan"][-1, -1] = np.inf, np.nan
    maps["inf and -inf in a row"] = bump.copy()
    maps["inf and -inf in a row"][middle[0], [0, -1]] = np.inf, -np.inf
    return {name: values.astype(np.float32) for name, values in maps.items()}


def reference_cases(size: Size, *, count: int) -> dict[str, np.ndarray]:
    """``[N, H, W]`` maps of every kind on which the reference functions are tested."""
    cases: dict[str, np.ndarray] = {}
    for seed, sigma in enumerate((0.8, 1.0, 1.5, 2.0, 3.0, 6.0)):
        bumps, points = gaussians(10 * seed, count, size, sigma=sigma, margin=0.0)
        cases[f"gaussian {sigma}"] = bumps
        for level in (0.02, 0.1):
            noisy, _ = gaussians(10 * seed, count, size, sigma=sigma, noise=level, margin=0.0)
            cases[f"gaussian {sigma} + noise {level}"] = noisy
        cases[f"masked {sigma}"] = masked(bumps, points, radius=2.5 * sigma)
    bumps, _ = gaussians(100, count, size, sigma=1.5)
    return cases | {
        "uniform noise": noise(101, count, size, zero_mean=False),
        "normal noise": noise(102, count, size, zero_mean=True),
        "checkerboard": checkerboard(107, count, size),
        "two peaks": second_peak(103, count, size, sigma=1.5, height=0.6, distance=4.0)[0],
        "border": border(104, size, sigma=2.0)[0],
        "cut .3": cut(bumps, threshold=0.3),
        "cut .8": cut(bumps, threshold=0.8),
        "floor .1": on_floor(bumps, floor=0.1),
        "floor .5": on_floor(bumps, floor=0.5),
        "x255": 255 * bumps,
        "x1e-3": np.float32(1e-3) * bumps,
        "x255 cut": 255 * cut(bumps, threshold=0.5),
        "logits": logits(105, count, size, sigma=2.0)[0],
        "plateaus": plateaus(106, count, size, levels=4),
        "degenerate": np.stack(list(degenerate(size).values())),
    }


def on_canvas(maps: np.ndarray, side: int = 64) -> np.ndarray:
    """Maps ``[N, H, W]`` in the corners, in turn, of squares that are as low as their minimum."""
    count, height, width = maps.shape
    canvas = np.empty((count, side, side), maps.dtype)
    canvas[:] = maps.min(axis=(1, 2), keepdims=True)
    for n, heatmap in enumerate(maps):
        y, x = (side - height) * (n % 2), (side - width) * (n // 2 % 2)
        canvas[n, y : y + height, x : x + width] = heatmap
    return canvas


def flat_tops(
    seed: int, count: int, size: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Maps ``[count, ...]`` of any dimension whose highest pixels tie, and their centres.

    The maps are saturated 16-bit sigmoids, clipped bytes and disks.
    Sigma is 2 unless the name states another.
    """
    sides = np.array(size)
    margin = np.minimum(11, (sides - 2) / 2)
    points = rng(seed).uniform(margin, sides - 1 - margin, (count, len(size)))
    places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    squares = ((places - points.reshape(-1, *[1] * len(size), len(size))) ** 2).sum(axis=-1)

    def saturated(gain: float, bias: float, dtype: str, sigma: float = 2.0) -> np.ndarray:
        logits = gain * np.exp(-squares / (2 * sigma**2)) + bias
        return np.asarray(jax.nn.sigmoid(jnp.asarray(logits, jnp.float32).astype(dtype)))

    def clipped(height: float) -> np.ndarray:
        return np.clip(np.round(height * np.exp(-squares / 8)), 0, 255).astype(np.uint8)

    maps = {
        "sigmoid(15 g - 5), bfloat16": saturated(15, -5, "bfloat16"),
        "sigmoid(20 g - 10), bfloat16": saturated(20, -10, "bfloat16"),
        "sigmoid(30 g - 10), bfloat16": saturated(30, -10, "bfloat16"),
        "sigmoid(30 g - 10), float16": saturated(30, -10, "float16"),
        "bytes clipped at .77 of their height": clipped(330),
        "bytes clipped at half their height": clipped(512),
        "sigmoid(25 g - 8), float16, sigma 3": saturated(25, -8, "float16", 3.0),
        "disk of 3": (squares <= 9).astype(np.float32),
        "disk of 4": (squares <= 16).astype(np.float32),
        "disk of 4.1": (squares <= 4.1**2).astype(np.float32),
        "disk of 7": (squares <= 49).astype(np.float32),
        "disk of 9": (squares <= 81).astype(np.uint8),
    }
    return maps, points[:, ::-1]
