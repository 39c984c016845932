"""Write homes.npz: the original code of the published rules, run on the maps of reference.npz.

    pip install --group bench && pip install --no-deps mmpose
    python -m tests.golden.homes

Use a separate environment: these packages need torch and hold other packages back.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.homes import HOMES, Home, mmpose, mmpose_codec, rtmlib
from tests.support.synthetic import on_canvas

HERE = Path(__file__).parent
FILE = HERE / "homes.npz"
KERNELS = (3, 7, 11, 17)
SIMCC_KERNELS = (11, 37)
NO_KERNEL = ("MMPOSE_MSRA", "FAN")
PACKAGES = (
    *("mmpose", "rtmlib", "transformers", "face-alignment"),
    *("torch", "scipy", "opencv-python-headless"),
)


def simcc(x_bins: np.ndarray, y_bins: np.ndarray, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins ``[K, W]`` and ``[K, H]`` to coordinates ``[K, 2]`` in bins, and scores."""
    home = mmpose()
    coords, scores = home.get_simcc_maximum(x_bins, y_bins)
    for axis, bins in enumerate((x_bins, y_bins)):
        coords[:, axis] = home.refine_simcc_dark(coords[None, :, axis], bins[None].copy(), kernel)
    return coords, scores


def plain_simcc(x_bins: np.ndarray, y_bins: np.ndarray) -> dict[str, np.ndarray]:
    """Coordinates in pixels, with two bins each, scores and visibilities of mmpose and rtmlib."""
    size = x_bins.shape[1] // 2, y_bins.shape[1] // 2
    codec = mmpose_codec("simcc_label").SimCCLabel(input_size=size, decode_visibility=True)
    coords, (scores, visibility) = codec.decode(x_bins.copy(), y_bins.copy())
    bins, means = rtmlib().get_simcc_maximum(x_bins[None], y_bins[None])
    return {
        "MMPOSE_SIMCC/coords": coords[0],
        "MMPOSE_SIMCC/scores": scores[0],
        "MMPOSE_SIMCC/visibility": np.ravel(visibility),
        "rtmlib/bins": bins[0],
        "rtmlib/scores": means[0],
    }


def megvii_scores(maps: np.ndarray, kernel: int) -> np.ndarray:
    size = maps.shape[:0:-1]
    codec = mmpose_codec("megvii_heatmap").MegviiHeatmap(size, size, kernel)
    return np.concatenate([codec.decode(heatmap[None])[1][0] for heatmap in maps])


def simcc_bins() -> dict[str, np.ndarray]:
    """Gaussian, noisy, bordering, tied, low and high bins, for two lengths of a row."""
    generator = np.random.default_rng(0)
    found = {}
    for name, size in (("x", 96), ("y", 128)):
        bins = np.arange(size)
        centres = np.concatenate([generator.uniform(0, size - 1, 28), [0.2, 1.1, size - 1, 40]])
        sigma = generator.uniform(2, 7, (len(centres), 1))
        values = np.exp(-0.5 * ((bins - centres[:, None]) / sigma) ** 2)
        values[::3] += 0.05 * generator.standard_normal(values[::3].shape)
        values[5:7] *= 100
        values[7:9] *= 0.01
        values[9] = np.round(values[9] * 4) / 4
        values[10] = generator.random(size)
        values[11] -= 0.3
        found[name] = values.astype(np.float32)
    return found


def main() -> None:
    with np.load(HERE / "reference.npz") as reference:
        maps = reference["maps"]
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    bins = simcc_bins()
    arrays: dict[str, Any] = {"versions": np.array(versions)}
    arrays |= {f"bins/{name}": values for name, values in bins.items()}
    for kernel in SIMCC_KERNELS:
        arrays[f"MMPOSE_SIMCC_DARK/{kernel}"], arrays["bins/scores"] = simcc(
            bins["x"], bins["y"], kernel
        )
    arrays |= plain_simcc(bins["x"], bins["y"])
    with np.errstate(all="ignore"):
        arrays["MEGVII/scores"] = megvii_scores(maps, 11)
        for name, load in HOMES.items():
            home = load()
            given = on_canvas(maps) if name == "FAN" else maps
            for kernel in (1,) if name in NO_KERNEL else KERNELS:
                coords = [_alone(home, heatmap, kernel) for heatmap in given]
                arrays[f"{name}/{kernel}"] = np.stack(coords).astype(np.float32)
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB; {', '.join(versions)}")


def _alone(home: Home, heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """Decode a map as two joints, since some originals drop an axis of one. NaN if they raise."""
    try:
        return np.asarray(home(np.stack([heatmap] * 2)[None], kernel)[0, 0], np.float64)
    except np.linalg.LinAlgError:
        return np.full(2, np.nan)


if __name__ == "__main__":
    main()
