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
from unittest import mock

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


def mmpose_codec(name: str) -> Any:
    """A module of mmpose's codecs, with stand-ins for the registries of mmpose and mmengine."""
    utils = mmpose()
    folder = Path(str(distribution("mmpose").locate_file("mmpose")))
    registry = types.SimpleNamespace(register_module=lambda: lambda codec: codec)
    contents: dict[str, dict[str, Any]] = {
        "mmpose": {"__path__": [str(folder)]},
        "mmpose.registry": {"KEYPOINT_CODECS": registry},
        "mmpose.codecs": {"__path__": [str(folder / "codecs")]},
        "mmpose.codecs.utils": vars(utils),
        "mmpose.codecs.utils.refinement": vars(utils),
        "mmengine": {"__path__": []},
        "mmengine.utils": {"is_method_overridden": None},
    }
    modules = {each: types.ModuleType(each) for each in contents}
    for each, values in contents.items():
        vars(modules[each]).update(values)
    with mock.patch.dict(sys.modules, modules):
        return importlib.import_module(f"mmpose.codecs.{name}")


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


def mmpose_msra() -> Home:
    """The one without a kernel."""
    module = mmpose()

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        coords, _ = module.get_heatmap_maximum(maps)
        pairs = zip(coords[:, None], maps, strict=True)
        return np.concatenate([module.refine_keypoints(*pair) for pair in pairs])

    return decode


def mmpose_megvii() -> Home:
    """The coordinates are in pixels of the map, because the input has its size."""
    codec = mmpose_codec("megvii_heatmap").MegviiHeatmap

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        size = maps.shape[:1:-1]
        of_one = codec(input_size=size, heatmap_size=size, kernel_size=kernel)
        return np.stack([of_one.decode(image)[0][0] for image in maps])

    return decode


def face_alignment() -> Home:
    """For square maps of 64 pixels, whose sides its code takes for granted."""
    module = importlib.import_module("face_alignment.utils")

    def decode(maps: np.ndarray, kernel: int) -> np.ndarray:
        return module.get_preds_fromhm(maps)[0]

    return decode


def rtmlib() -> Any:
    return importlib.import_module("rtmlib.tools.pose_estimation.post_processings")


def rtmlib_vitpose() -> Home:
    module = rtmlib()

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
    "MMPOSE_MSRA": mmpose_msra,
    "MEGVII": mmpose_megvii,
    "FAN": face_alignment,
    "VITPOSE": rtmlib_vitpose,
    "HF_VITPOSE": hf_vitpose,
    "SAPIENS2": hf_sapiens2,
}
