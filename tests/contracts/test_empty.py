"""Every public function accepts a batch without images, persons or joints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import coco, conventions, metrics, rules
from tests.contracts.test_api import FUNCTIONS

pytest.importorskip("flatbuffers")
pytest.importorskip("matplotlib")

from dark_jax import export, plot

SIZE = (16, 12)
# Images, instances, joints.
LEADING = ((0,), (0, 3), (2, 0), (0, 0), (2, 0, 3), (2, 3, 0), (0, 2, 3))
BATCHES = ((0, 3), (2, 0), (0, 0))


def maps(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros((*shape, *SIZE), np.float32)


def keypoints(shape: tuple[int, ...]) -> dark_jax.Keypoints:
    return dark_jax.decode(maps(shape))


def points(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros((*shape, 2), np.float32)


def affine(shape: tuple[int, ...]) -> jax.Array:
    boxes = np.ones((*shape, 4), np.float32)
    return dark_jax.box_to_affine(boxes, map_size=SIZE, convention=conventions.UDP)


def fit(shape: tuple[int, ...]) -> Any:
    """Each map has a sigma, as if it were estimated from other maps."""
    sigma = np.ones((*shape, 1), np.float32)
    return dark_jax.decode_fit(maps(shape), sigma=sigma, radius=3)


def flipped(shape: tuple[int, ...]) -> Any:
    joints = ((0, 1),) if shape[-1] > 1 else ()
    return dark_jax.flip_heatmaps(maps(shape), joints, shift=1)


# Functions of the leading axes. Every array that they return starts with these axes.
KEEPING: dict[str, Callable[[tuple[int, ...]], Any]] = {
    "apply_affine": lambda shape: dark_jax.apply_affine(points(shape), affine(shape)),
    "box_to_affine": affine,
    "decode": lambda shape: dark_jax.decode(maps(shape), rule=rules.DARKPOSE),
    "decode_fit": fit,
    "decode_peaks": lambda shape: dark_jax.decode_peaks(
        maps(shape), max_peaks=3, threshold=0.1, min_distance=2
    ),
    "decode_simcc": lambda shape: dark_jax.decode_simcc(
        maps(shape)[..., 0], maps(shape)[..., 0, :]
    ),
    "simcc_visibility": lambda shape: dark_jax.simcc_visibility(
        maps(shape)[..., 0], maps(shape)[..., 0, :], sigma=6.0
    ),
    "decode_soft_argmax": lambda shape: dark_jax.decode_soft_argmax(maps(shape), temperature=1.0),
    "encode": lambda shape: dark_jax.encode(points(shape), size=SIZE),
    "flip_heatmaps": flipped,
    "invert_affine": lambda shape: dark_jax.invert_affine(affine(shape)),
    "merge_flipped": lambda shape: dark_jax.merge_flipped(maps(shape), maps(shape)),
    "to_image": lambda shape: dark_jax.to_image(keypoints(shape), affine(shape)),
    "crop": lambda shape: dark_jax.crop(
        np.ones((*shape[:1], 8, 8, 3)),
        affine(shape),
        input_size=SIZE,
        map_size=SIZE,
        convention=conventions.UDP,
    ),
}
# Functions that accept only [B, J, H, W].
REFERENCE: dict[str, Callable[[tuple[int, ...]], Any]] = {
    "gaussian_blur": lambda shape: dark_jax.gaussian_blur(maps(shape)),
    "get_final_preds": lambda shape: dark_jax.get_final_preds(maps(shape)),
    "get_max_preds": lambda shape: dark_jax.get_max_preds(maps(shape)),
}
METRICS: dict[str, dict[str, Any]] = {
    "auc": {"thresholds": (1.0, 2.0)},
    "epe": {},
    "nme": {"normalize": 1.0},
    "oks": {"area": 1.0, "sigmas": 0.1},
    "pck": {"threshold": 1.0},
    "pckh": {"threshold": 1.0, "head_boxes": [0.0, 0.0, 1.0, 1.0]},
}
# The empty batches of these functions are tested below or in other files.
ELSEWHERE = {
    "estimate_sigma",
    "save",
    "decode_store",  # tests/stores/test_readers.py
    "coco.average_precision",  # tests/io/test_coco_input.py
    "coco.results",
    "coco.save",
    "export.export_decode",  # tests/contracts/test_export.py
    "plot.overlay",
}
# Functions without a batch: they take one map, a size, a file or a function.
WITHOUT = {"taylor", "map_to_input", "export.export_function", "export.load", "export.save"}
WITHOUT |= {"plot.read_photo", "samples.load"}


def test_every_function_is_here() -> None:
    named = {*KEEPING, *REFERENCE, *(f"metrics.{name}" for name in METRICS), *ELSEWHERE, *WITHOUT}
    assert named == {*FUNCTIONS}


@pytest.mark.parametrize("name", KEEPING)
def test_leading_axes_stay(name: str) -> None:
    for shape in LEADING:
        leaves = jax.tree.leaves(KEEPING[name](shape))
        assert leaves
        assert all(leaf.shape[: len(shape)] == shape for leaf in leaves), shape


@pytest.mark.parametrize("name", REFERENCE)
def test_reference(name: str) -> None:
    for shape in BATCHES:
        leaves = jax.tree.leaves(REFERENCE[name](shape))
        assert all(leaf.shape[:2] == shape for leaf in leaves)


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name: str) -> None:
    """A mean over nothing is 0. A mean over one axis keeps the others, even if they are empty."""
    function, options = getattr(metrics, name), METRICS[name]
    for shape in LEADING:
        found = function(points(shape), points(shape), **options)
        assert found.shape == shape[:-1]
        assert not found.any()
        if name != "oks":
            assert function(points(shape), points(shape), **options, axis=None) == 0


def test_estimate_sigma() -> None:
    """The estimate is infinite without maps, as it is for maps without a blob."""
    for shape in LEADING:
        assert dark_jax.estimate_sigma(maps(shape)) == jnp.inf
    for shape in ((0, 3), (2, 0), (0, 0)):
        found = dark_jax.estimate_sigma(maps(shape), joint_axis=1)
        np.testing.assert_array_equal(found, np.full(shape[1], np.inf))


def test_nothing_to_files(tmp_path: Path) -> None:
    for shape in BATCHES:
        none = keypoints(shape)
        for suffix in (".csv", ".json", ".npz"):
            dark_jax.save(none, tmp_path / f"out{suffix}")
        assert (tmp_path / "out.csv").read_text().count("\n") == 1
        with np.load(tmp_path / "out.npz") as arrays:
            assert arrays["coords"].shape == (*shape, 2)
        assert coco.results(none, image_ids=np.zeros(shape[0], int)) == []
    coco.save([], tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "[]\n"


def test_nothing_is_drawn() -> None:
    """``overlay`` still returns a figure. It shows the photo if there is one."""
    for shape in (*BATCHES, (0,)):
        assert plot.overlay(keypoints(shape), heatmaps=maps(shape)).get_suptitle()
    photo = np.zeros((32, 24, 3), np.uint8)
    found = plot.overlay(keypoints((1, 0)), heatmaps=maps((1, 0)), photo=photo, stride=2)
    assert len(found.axes[0].images) == 1


def test_the_whole_way() -> None:
    """Photos without persons are processed up to scores, under one ``jit`` and by an export."""
    photos, boxes = np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 0, 4), np.float32)

    @jax.jit
    def found(photos: jax.Array, boxes: jax.Array) -> dark_jax.Keypoints:
        affine = dark_jax.box_to_affine(boxes, map_size=SIZE, convention=conventions.UDP)
        seen = dark_jax.crop(
            photos, affine, input_size=SIZE, map_size=SIZE, convention=conventions.UDP
        )
        heatmaps = jnp.moveaxis(seen, -1, -3)
        flipped = dark_jax.flip_heatmaps(heatmaps, ((0, 1),), shift=0)
        return dark_jax.to_image(dark_jax.decode(dark_jax.merge_flipped(heatmaps, flipped)), affine)

    nobody = found(photos, boxes)
    assert nobody.coords.shape == (2, 0, 3, 2)
    assert coco.results(nobody, image_ids=np.array([[1], [2]])) == []
    assert metrics.epe(nobody.coords, nobody.coords, axis=None) == 0
    artefact = export.export_decode(size=SIZE, platforms=("cpu",))
    assert export.load(artefact)(maps((0, 3)))["coords"].shape == (0, 3, 2)
