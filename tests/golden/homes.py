"""Write homes.npz: what the homes of the published rules make of the maps of reference.npz.

    pip install --group parity && pip install --no-deps mmpose rtmlib
    python -m tests.golden.homes

In an environment of its own: these packages need torch and hold others back.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FILE = HERE / "homes.npz"
KERNELS = (3, 7, 11, 17)
SIMCC_KERNELS = (11, 37)
PACKAGES = ("mmpose", "rtmlib", "transformers", "torch", "scipy", "opencv-python-headless")

Home = Callable[[np.ndarray, int], Any]


def _mmpose() -> Any:
    """The two files of mmpose's wheel that need neither mmcv nor mmengine, as one module."""
    folder = Path(str(distribution("mmpose").locate_file("mmpose/codecs/utils")))
    package = types.ModuleType("mmpose_codecs_utils")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    found = types.SimpleNamespace()
    for name in ("post_processing", "refinement"):
        full = f"{package.__name__}.{name}"
        spec = importlib.util.spec_from_file_location(full, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        vars(found).update(vars(module))
    return found


def homes() -> dict[str, Home]:
    """Maps ``[N, H, W]`` and a kernel to coordinates ``[N, 2]``; every map alone, on a copy."""
    # By name: these packages are not where the types are checked.
    rtmlib, sapiens2, vitpose, torch = map(
        importlib.import_module,
        (
            "rtmlib.tools.pose_estimation.post_processings",
            "transformers.models.sapiens2.image_processing_sapiens2",
            "transformers.models.vitpose.image_processing_vitpose",
            "torch",
        ),
    )
    mmpose = _mmpose()

    def refined_by(refine: Callable[..., Any]) -> Home:
        def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
            coords, _ = mmpose.get_heatmap_maximum(maps)
            return refine(coords[None], maps.copy(), kernel)[0]

        return decode

    def vitpose_of_rtmlib(maps: np.ndarray, kernel: int) -> np.ndarray:
        coords, _ = mmpose.get_heatmap_maximum(maps)
        return rtmlib.post_dark_udp(coords[None], maps[None].copy(), kernel)[0]

    def hf_vitpose(maps: np.ndarray, kernel: int) -> np.ndarray:
        coords, _ = vitpose.get_keypoint_predictions(maps[None])
        return vitpose.post_dark_unbiased_data_processing(coords, maps[None].copy(), kernel)[0]

    def hf_sapiens2(maps: np.ndarray, kernel: int) -> np.ndarray:
        tensor = torch.tensor(maps[None])
        coords, _ = sapiens2.get_keypoint_predictions(tensor)
        return sapiens2.post_dark_unbiased_data_processing(coords, tensor, kernel)[0].numpy()

    return {
        "MMPOSE_DARK": refined_by(mmpose.refine_keypoints_dark),
        "MMPOSE_UDP": refined_by(mmpose.refine_keypoints_dark_udp),
        "VITPOSE": vitpose_of_rtmlib,
        "HF_VITPOSE": hf_vitpose,
        "SAPIENS2": hf_sapiens2,
    }


def simcc(x_bins: np.ndarray, y_bins: np.ndarray, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins ``[K, W]`` and ``[K, H]`` to coordinates ``[K, 2]`` in bins, and scores."""
    mmpose = _mmpose()
    coords, scores = mmpose.get_simcc_maximum(x_bins, y_bins)
    for axis, bins in enumerate((x_bins, y_bins)):
        coords[:, axis] = mmpose.refine_simcc_dark(coords[None, :, axis], bins[None].copy(), kernel)
    return coords, scores


def simcc_bins() -> dict[str, np.ndarray]:
    """Gaussian, noisy, bordering, tied, low and high bins of two lengths."""
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
    versions = [
        f"{package} {version(package)}"
        for package in (
            "mmpose",
            "rtmlib",
            "transformers",
            "torch",
            "scipy",
            "opencv-python-headless",
        )
    ]
    bins = simcc_bins()
    arrays: dict[str, Any] = {"versions": np.array(versions)}
    arrays |= {f"bins/{name}": values for name, values in bins.items()}
    for kernel in SIMCC_KERNELS:
        arrays[f"MMPOSE_SIMCC/{kernel}"], arrays["bins/scores"] = simcc(
            bins["x"], bins["y"], kernel
        )
    with np.errstate(all="ignore"):
        for name, home in homes().items():
            for kernel in KERNELS:
                coords = [_alone(home, heatmap, kernel) for heatmap in maps]
                arrays[f"{name}/{kernel}"] = np.stack(coords).astype(np.float32)
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB; {', '.join(versions)}")


def _alone(home: Home, heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """The map twice, since some homes squeeze a single joint away; NaN where the home raises."""
    try:
        return np.asarray(home(np.stack([heatmap] * 2), kernel)[0], np.float64)
    except np.linalg.LinAlgError:
        return np.full(2, np.nan)


if __name__ == "__main__":
    main()
