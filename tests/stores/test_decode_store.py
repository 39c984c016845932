"""Stores of any layout, type and decoder are decoded like maps in memory."""

import dataclasses
import functools
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, decode_store, rules
from dark_jax._stores import blocks
from dark_jax._stores.decoder import Decoder, for_blocks
from tests.stores.cases import (
    BLOCK,
    CHUNKS,
    OTHER,
    TARGETS,
    assert_same,
    group_of,
    tree,
    write_zarr,
)
from tests.support.batches import in_batches
from tests.support.by_hand import covariance_of

zarr = pytest.importorskip("zarr")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("h5py")
pytest.importorskip("distributed")

FIT = functools.partial(dark_jax.decode_fit, sigma=2.0)


def test_fit_has_a_covariance(stores: Path, expected_fit: Keypoints) -> None:
    for suffix in TARGETS:
        decode_store(stores / "maps.npy", stores / f"out{suffix}", decoder=FIT)
    found = group_of(stores / "out.zarr")
    assert_same(found, expected_fit)
    covariance = covariance_of(expected_fit)
    np.testing.assert_allclose(found["covariance"], covariance, rtol=1e-4)
    assert np.isinf(found["covariance"][1, 1]).all()  # no peak
    table = parquet.read_table(stores / "out.parquet")
    assert table["cxx"].null_count == 1
    np.testing.assert_allclose(table["cxx"][0].as_py(), covariance[0, 0, 0, 0], rtol=1e-4)
    about = dict(zarr.open_group(stores / "out.zarr", mode="r").attrs)
    assert (about["decoder"], about["sigma"]) == ("decode_fit", 2.0)


def test_rules(stores: Path, maps: np.ndarray) -> None:
    decode_store(stores / "maps.npy", stores / "o.zarr", decoder=OTHER)
    assert_same(group_of(stores / "o.zarr"), in_batches(OTHER, maps, size=BLOCK))


@pytest.mark.parametrize(("order", "axes"), [((2, 3, 0, 1), (0, 1)), ((1, 2, 0, 3), (1, 3))])
def test_layouts(
    tmp_path: Path,
    maps: np.ndarray,
    expected: Keypoints,
    order: tuple[int, ...],
    axes: tuple[int, ...],
) -> None:
    """Any axes may be those of a map. The others are cut into blocks.

    The tests of the command read channels-last.
    """
    moved = np.ascontiguousarray(maps.transpose(order))
    write_zarr(tmp_path / "in.zarr", moved, tuple(CHUNKS[axis] for axis in order))
    np.save(tmp_path / "in.npy", moved)
    others = [axis for axis in order if axis < 2]  # the axes of the keypoints, in the new order
    there = jax.tree.map(lambda leaf: np.moveaxis(leaf, others, (0, 1)), expected)
    for name in ("in.zarr", "in.npy"):
        decode_store(tmp_path / name, tmp_path / "out.zarr", axes=axes, overwrite=True)
        assert_same(group_of(tmp_path / "out.zarr"), there)


@pytest.mark.parametrize("shape", [(24, 20), (3, 24, 20), (2, 1, 3, 24, 20)])
def test_ranks(
    tmp_path: Path, maps: np.ndarray, expected: Keypoints, shape: tuple[int, ...]
) -> None:
    few = maps.reshape(-1)[: np.prod(shape)].reshape(shape)
    np.save(tmp_path / "in.npy", few)
    for suffix in TARGETS:
        decode_store(tmp_path / "in.npy", tmp_path / f"out{suffix}")
    found = group_of(tmp_path / "out.zarr")
    assert found["coords"].shape == (*shape[:-2], 2)
    count = int(np.prod(shape[:-2]))
    first = jax.tree.map(lambda leaf: leaf.reshape(33, *leaf.shape[2:])[:count], expected)
    there = jax.tree.map(lambda leaf: leaf.reshape((*shape[:-2], *leaf.shape[1:])), first)
    assert_same(found, there)
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    named = dict(zip(("joint", "instance", "image"), reversed(shape[:-2]), strict=False))
    for number, index in enumerate(np.ndindex(shape[:-2])):
        place = dict(zip(reversed(named), index, strict=True))
        assert {name: rows[number][name] for name in place} == place


@pytest.mark.parametrize("dtype", ["uint8", ">f4", "float16", "float64"])
def test_types(
    tmp_path: Path, maps: np.ndarray, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of two images of any type are decoded like the same numbers in float32."""
    values = (200 * np.clip(maps, 0, 1)).astype(dtype)
    monkeypatch.setattr(blocks, "GOAL", values[:BLOCK].nbytes)
    np.save(tmp_path / "in.npy", values)
    decode_store(tmp_path / "in.npy", tmp_path / "out.zarr")
    found = group_of(tmp_path / "out.zarr")
    assert found["coords"].dtype == np.float32
    assert_same(found, dark_jax.decode(values.astype(np.float32)))


class TestRules:
    """A rule is data. Any rule can decode a store, and its values are kept with the results."""

    @pytest.mark.parametrize("rule", [rules.GUARDED, *rules.PUBLISHED], ids=repr)
    def test_equal_after_a_pickle(self, rule: rules.Rule) -> None:
        again = pickle.loads(pickle.dumps(rule))
        assert again == rule
        decoders = [functools.partial(dark_jax.decode, rule=each) for each in (rule, again)]
        assert for_blocks(decoders[0], None).about() == for_blocks(decoders[1], None).about()

    def test_a_pickled_one(self, stores: Path) -> None:
        """An unpickled rule gives the same results, and resumes what the original began."""
        for name, rule in (("a", rules.VITPOSE), ("b", pickle.loads(pickle.dumps(rules.VITPOSE)))):
            decoder = functools.partial(dark_jax.decode, rule=rule, kernel_size=7)
            decode_store(stores / "maps.npy", stores / f"{name}.zarr", decoder=decoder)
        assert tree(stores / "a.zarr") == tree(stores / "b.zarr")
        decode_store(stores / "maps.npy", stores / "a.zarr", decoder=decoder, resume=True)

    def test_of_ones_own(self, stores: Path, maps: np.ndarray) -> None:
        """A rule may have a kernel of its own. Rules that differ do not resume each other.

        This holds for rules of one name too.
        """
        mine = dataclasses.replace(rules.GUARDED, name="MINE", kernel=_narrow, longest=3.0)
        target = stores / "o.zarr"
        decode = functools.partial(dark_jax.decode, rule=mine)
        decode_store(stores / "maps.npy", target, decoder=decode)
        assert_same(group_of(target), in_batches(decode, maps, size=BLOCK))
        about = dict(zarr.open_group(target, mode="r").attrs)["rule"]
        assert about["kernel"][2] == pytest.approx(_narrow(5)[2], rel=1e-9)
        assert about.keys() == {field.name for field in dataclasses.fields(rules.Rule)}
        assert (about["stencil"], about["padding"]) == ({"reach": 2, "corners": 4}, "ZEROS")
        assert about["ceiling"] == "inf"
        for other, message in (
            (dataclasses.replace(mine, longest=2.0), "another rule.longest: it was 3.0, now it"),
            (dataclasses.replace(mine, kernel=lambda size: np.ones(size) / size), "rule.kernel"),
            (dataclasses.replace(mine, padding=rules.Padding.REFLECT), "rule.padding: it was 'ZE"),
            (dataclasses.replace(mine, stencil=rules.COMPACT), "rule.stencil.reach: it was 2"),
        ):
            decode = functools.partial(dark_jax.decode, rule=other)
            with pytest.raises(ValueError, match=message):
                decode_store(stores / "maps.npy", target, decoder=decode, resume=True)

    def test_on_workers(self, stores: Path, scheduler: str) -> None:
        mine = dataclasses.replace(rules.HRNET, name="MINE", fixed_step=0.125)
        decode = functools.partial(dark_jax.decode, rule=mine)
        decode_store(stores / "maps.npy", stores / "threads.zarr", decoder=decode)
        decode_store(stores / "maps.npy", stores / "o.zarr", decoder=decode, scheduler=scheduler)
        assert tree(stores / "o.zarr") == tree(stores / "threads.zarr")

    def test_that_cannot_travel(self, stores: Path) -> None:
        """The error is raised before anything is read, so the source need not exist."""
        lock = threading.Lock()
        mine = dataclasses.replace(rules.GUARDED, kernel=lambda size: lock and np.ones(size))
        decode = functools.partial(dark_jax.decode, rule=mine)
        with pytest.raises(TypeError, match="rule must be picklable, to go to workers, got rules"):
            decode_store(stores / "nowhere.npy", stores / "o.zarr", decoder=decode)

    @pytest.mark.parametrize("rule", ["HRNET", None])
    def test_that_are_none(self, stores: Path, rule: Any) -> None:
        decode = functools.partial(dark_jax.decode, rule=rule)
        with pytest.raises(TypeError, match=r"rule must be a Rule of dark_jax\.rules, as"):
            decode_store(stores / "maps.npy", stores / "o.zarr", decoder=decode)
        assert not (stores / "o.zarr.incomplete").exists()


def _narrow(size: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-(size // 2), size // 2 + 1) ** 2) / 2.0)
    return weights / weights.sum()


@pytest.mark.parametrize("module", ["zarr", "dask", "filelock", "h5py"])
def test_missing_extra(stores: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    before = tree(stores)
    with pytest.raises(ImportError, match=r'pip install "dark_jax\[store\]"'):
        decode_store(stores / "maps.h5", stores / "o.zarr")
    assert tree(stores) == before


def test_the_device_of_the_caller(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX sets the default device per thread. The caller's device is used for every block."""
    found = set()
    decode = Decoder.__call__

    def recorded(self: Decoder, heatmaps: Any) -> Keypoints:
        keypoints = decode(self, heatmaps)
        if isinstance(heatmaps, np.ndarray):  # not while it is traced
            found.update(keypoints.coords.devices())
        return keypoints

    monkeypatch.setattr(Decoder, "__call__", recorded)
    device = jax.devices()[2]
    with jax.default_device(device):
        hrnet = functools.partial(dark_jax.decode, rule=rules.HRNET)
        decode_store(stores / "maps.npy", stores / "out.zarr", decoder=hrnet)
    assert found == {device}


def test_progress_that_cannot_be_called(stores: Path) -> None:
    with pytest.raises(TypeError, match="progress must be a function, got 5"):
        decode_store(stores / "maps.npy", stores / "out.zarr", progress=5)  # pyright: ignore[reportArgumentType]
    assert not (stores / "out.zarr.incomplete").exists()
