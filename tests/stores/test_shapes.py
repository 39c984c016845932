"""Stores of unusual shape or header, such as one without maps, or a ``.npy`` of version 3."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, decode_store
from dark_jax._stores.blocks import cut_into_blocks
from tests.stores.cases import assert_same, group_of, write_zarr

h5py: Any = pytest.importorskip("h5py")
pytest.importorskip("zarr")
parquet: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("dask")

NOTHING = ((0, 3), (3, 0), (0, 0), (0,), (2, 0, 3))


def write(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".zarr":
        write_zarr(path, values, tuple(max(1, n) for n in values.shape))
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["heatmaps"] = values
    else:
        np.save(path, values)
    return path


@pytest.mark.parametrize("shape", NOTHING)
@pytest.mark.parametrize("name", ["in.npy", "in.h5", "in.zarr"])
def test_no_map(tmp_path: Path, shape: tuple[int, ...], name: str) -> None:
    """A store without maps gives results of the same kind, without a keypoint.

    A video in which nobody was found is such a store.
    """
    source = write(tmp_path / name, np.zeros((*shape, 24, 20), np.float32))
    seen: list[tuple[int, int]] = []
    for suffix in (".zarr", ".parquet"):
        target = tmp_path / f"out{suffix}"
        decode_store(source, target, progress=lambda *counts: seen.append(counts))
        decode_store(source, target, resume=True)
        decode_store(source, target, overwrite=True)
    assert seen == [(0, 0)] * 2
    found = group_of(tmp_path / "out.zarr")
    assert {name: array.shape for name, array in found.items()} == {
        "coords": (*shape, 2),
        "scores": shape,
        "status": shape,
    }
    table = parquet.read_table(tmp_path / "out.parquet")
    dark_jax.save(dark_jax.decode(np.zeros((2, 3, 24, 20))), tmp_path / "some.parquet")
    some = parquet.read_table(tmp_path / "some.parquet")
    assert (len(table), table.schema) == (0, some.schema.with_metadata(table.schema.metadata))


@pytest.mark.parametrize("axes", [(-2, -1), (1, 2)])
def test_maps_without_a_pixel(tmp_path: Path, axes: tuple[int, int]) -> None:
    source = write(tmp_path / "in.npy", np.zeros((3, 0, 20), np.float32))
    message = r"in\.npy must have maps of at least one pixel, got shape \(3, 0, 20\)"
    with pytest.raises(ValueError, match=message):
        decode_store(source, tmp_path / "out.zarr", axes=axes)


def test_no_block() -> None:
    """An empty array has no blocks. Every block size is still valid as a chunk size."""
    for chunks in (None, (1, 1, 4, 4), (2, 1, 1, 1)):
        blocks = cut_into_blocks((0, 3, 8, 8), 4, chunks, (2, 3))
        assert [*blocks] == []
        assert min(blocks.size) >= 1
        assert blocks.others == (0, 3)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_npy(
    tmp_path: Path, maps: np.ndarray, expected: Keypoints, version: tuple[int, int]
) -> None:
    """Every version decodes in blocks like the maps in memory."""
    with (tmp_path / "in.npy").open("wb") as stream:
        np.lib.format.write_array(stream, maps, version=version)
    decode_store(tmp_path / "in.npy", tmp_path / "out.zarr")
    assert_same(group_of(tmp_path / "out.zarr"), expected)


def test_names_that_are_too_long(tmp_path: Path, maps: np.ndarray) -> None:
    """The folder of unfinished results has a longer name than the target."""
    np.save(tmp_path / "in.npy", maps)
    for name in ("n" * 240 + ".zarr", "n" * 243 + ".parquet", "n" * 249 + ".zarr"):
        if len(name) + len(".incomplete") <= 255:
            decode_store(tmp_path / "in.npy", tmp_path / name)
            assert (tmp_path / name).is_dir()
            continue
        with pytest.raises(OSError, match=r"name too long\); choose a shorter name.*incomplete"):
            decode_store(tmp_path / "in.npy", tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": None}, TypeError, "source must be a path, got None"),
        ({"target": 3}, TypeError, "target must be a path, got 3"),
        ({"target": b"out.zarr"}, TypeError, "target must be a path, got b'out.zarr'"),
        ({"progress": 3}, TypeError, "progress must be a function, got 3"),
        ({"workers": "2"}, TypeError, "workers must be an integer of at least 1, got '2'"),
        ({"scheduler": 3}, TypeError, "scheduler must be an address, .*, got 3"),
        ({"scheduler": ""}, TypeError, "scheduler must be an address, .*, got ''"),
        ({"overwrite": "no"}, TypeError, "overwrite must be True or False, got 'no'"),
        ({"resume": 0}, TypeError, "resume must be True or False, got 0"),
        ({"accept_changed_source": 1}, TypeError, "accept_changed_source must be True or False"),
        ({"refuse_missing_chunks": 1}, TypeError, "refuse_missing_chunks must be True or False"),
        ({"axes": 3}, TypeError, "axes must be one to three axes in increasing order.*, got 3"),
    ],
)
def test_arguments_of_other_types(
    tmp_path: Path, maps: np.ndarray, arguments: dict[str, Any], error: type, message: str
) -> None:
    """A wrong type has no effect. In particular, a wrong flag keeps the results that exist."""
    np.save(tmp_path / "in.npy", maps[:2])
    decode_store(tmp_path / "in.npy", tmp_path / "out.zarr")
    before = (tmp_path / "out.zarr" / "zarr.json").stat().st_ino
    given = {"source": tmp_path / "in.npy", "target": tmp_path / "out.zarr", **arguments}
    with pytest.raises(error, match=message):
        decode_store(**given)
    assert (tmp_path / "out.zarr" / "zarr.json").stat().st_ino == before
