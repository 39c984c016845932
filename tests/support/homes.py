"""The original implementations of the published rules, run where they are installed.

    pip install --group bench && pip install --no-deps mmpose

The packages are imported by name, because they are not installed where types are checked.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

# From float32 maps [B, J, H, W] and a kernel to coordinates [B, J, 2], as the original's own
# inference computes them. An original that would overwrite the maps gets a copy.
Home = Callable[[np.ndarray, int], np.ndarray]


def mmpose() -> Any:
    """The two files of mmpose's wheel that need neither mmcv nor mmengine, as one module."""
    try:
        folder = Path(str(distribution("mmpose").locate_file("mmpose/codecs/utils")))
    except PackageNotFoundError as error:
        raise ImportError("mmpose is not installed") from error
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


def _mmpose_refining(name: str) -> Home:
    module = mmpose()
    refine = getattr(module, name)

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        coords, _ = module.get_heatmap_maximum(maps)
        pairs = zip(coords, maps, strict=True)
        return np.stack([refine(points[None], image.copy(), kernel)[0] for points, image in pairs])

    return decode


def mmpose_dark() -> Home:
    return _mmpose_refining("refine_keypoints_dark")


def mmpose_udp() -> Home:
    return _mmpose_refining("refine_keypoints_dark_udp")


def rtmlib_vitpose() -> Home:
    module = importlib.import_module("rtmlib.tools.pose_estimation.post_processings")

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        flat = maps.reshape(*maps.shape[:2], -1)
        y, x = np.divmod(flat.argmax(axis=2), maps.shape[-1])
        coords = np.stack([x, y], axis=-1).astype(np.float32)
        coords[flat.max(axis=2) <= 0] = -1
        return module.post_dark_udp(coords, maps.copy(), kernel)

    return decode


def hf_vitpose() -> Home:
    name = "transformers.models.vitpose.image_processing"
    try:
        module = importlib.import_module(f"{name}_pil_vitpose")  # the same, without torch
    except ImportError:
        module = importlib.import_module(f"{name}_vitpose")

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        coords, _ = module.get_keypoint_predictions(maps)
        return module.post_dark_unbiased_data_processing(coords, maps, kernel)

    return decode


def hf_sapiens2() -> Home:
    module = importlib.import_module("transformers.models.sapiens2.image_processing_sapiens2")
    torch = importlib.import_module("torch")

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        tensor = torch.from_numpy(maps)
        coords, _ = module.get_keypoint_predictions(tensor)
        return module.post_dark_unbiased_data_processing(coords, tensor, kernel).numpy()

    return decode


# By the name of the rule in dark_jax.rules that gives the same numbers.
HOMES: dict[str, Callable[[], Home]] = {
    "MMPOSE_DARK": mmpose_dark,
    "MMPOSE_UDP": mmpose_udp,
    "VITPOSE": rtmlib_vitpose,
    "HF_VITPOSE": hf_vitpose,
    "SAPIENS2": hf_sapiens2,
}
