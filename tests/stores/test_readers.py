"""Every kind of store is read, also if some of its chunks cannot be read."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status, UnreadChunksError, decode_store
from dark_jax._stores import readers
from tests.stores.cases import (
    CHUNKS,
    OTHER,
    SHAPE,
    TARGETS,
    assert_same,
    damaged_chunk,
    group_of,
    tree,
)
from tests.support import tolerances

zarr = pytest.importorskip("zarr")
pytest.importorskip("h5py")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("dask")


SOURCES = ("maps.npy", "array.zarr", "group.zarr", "maps.h5")


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_to_zarr(stores: Path, name: str, expected: Keypoints) -> None:
    decode_store(stores / name, stores / "out.zarr")
    found = group_of(stores / "out.zarr")
    assert {name: array.dtype for name, array in found.items()} == {
        "coords": np.float32,
        "scores": np.float32,
        "status": np.int8,
    }
    assert_same(found, expected)
    about = dict(zarr.open_group(stores / "out.zarr", mode="r").attrs)
    assert about["source"] == str(stores / name)
    assert about["dark_jax"] == dark_jax.__version__
    assert (about["decoder"], about["kernel_size"]) == ("decode", 5)
    assert (about["rule"]["name"], about["rule"]["floor"]) == ("GUARDED", 1e-10)
    assert about["status"] == {reason.name: reason.value for reason in Status}
    assert not (stores / "out.zarr.incomplete").exists()


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_to_parquet(stores: Path, name: str, expected: Keypoints) -> None:
    """The rows equal those of a table that is written at once, in the same order."""
    decode_store(stores / name, stores / "out.parquet")
    dark_jax.save(expected, stores / "at_once.parquet")
    found, whole = (parquet.read_table(stores / f"{n}.parquet") for n in ("out", "at_once"))
    assert found.schema.names == whole.schema.names
    for column in found.schema.names:
        if column in ("x", "y"):
            a, b = (np.array(table[column].to_pylist(), float) for table in (found, whole))
            np.testing.assert_allclose(a, b, atol=tolerances.COMPILED)
        else:
            assert found[column].to_pylist() == whole[column].to_pylist()
    assert json.loads(found.schema.metadata[b"about"])["rule"]["name"] == "GUARDED"


def test_members(stores: Path, expected: Keypoints) -> None:
    """The ``key`` names another array than the default, also deep in a file."""
    for name, key, part in (
        ("group.zarr", "other", slice(2, 4)),
        ("maps.h5", "a/b", slice(None, None, -1)),
    ):
        decode_store(stores / name, stores / "out.zarr", key=key, overwrite=True)
        there = jax.tree.map(lambda leaf, part=part: leaf[part], expected)
        assert_same(group_of(stores / "out.zarr"), there)


class TestUnreadChunks:
    @pytest.mark.parametrize("name", ["array.zarr", "maps.h5"])
    @pytest.mark.parametrize("suffix", TARGETS)
    def test_the_rest_is_kept(
        self, stores: Path, name: str, suffix: str, expected: Keypoints
    ) -> None:
        """A damaged chunk of one joint loses only that joint.

        After the chunk is repaired and the run resumed, nothing is lost.
        """
        source, target = stores / name, stores / f"out{suffix}"
        decode_store(source, stores / f"whole{suffix}")
        sound = {path: path.read_bytes() for path in stores.rglob("*") if path.is_file()}
        damaged, chunk, (first, last), where = damaged_chunk(stores, name)

        for resume in (False, True):  # the second try fails too
            with pytest.raises(UnreadChunksError, match=r"1 chunks cannot be read") as error:
                decode_store(source, target, resume=resume)
            (unread,) = error.value.unread
            assert (unread.path, unread.chunk) == (where, chunk)
            assert unread.reason
            assert not target.exists()

        lost = np.zeros(SHAPE[:2], bool)
        lost[first:last, 2] = True
        if suffix == ".zarr":
            found = group_of(error.value.kept)
            assert (found["status"][lost] == Status.NOT_FINITE).all()
            assert np.isnan(found["coords"][lost]).all()
            assert np.isnan(found["scores"][lost]).all()
            np.testing.assert_array_equal(found["scores"][~lost], expected.scores[~lost])
        else:
            rows = parquet.read_table(error.value.kept).to_pylist()
            assert len(rows) == 33
            for row in rows:
                assert (row["x"] is None) == (
                    lost[row["image"], row["joint"]] or row["status"] == "NO_PEAK"
                )

        damaged.write_bytes(sound[damaged])
        if name == "maps.h5":  # the repair changes the file of all chunks
            with pytest.raises(ValueError, match="has changed since"):
                decode_store(source, target, resume=True)
        decode_store(source, target, resume=True, accept_changed_source=name == "maps.h5")
        assert tree(target) == tree(stores / f"whole{suffix}")

    def test_what_has_no_chunks(self, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a part of a ``.npy`` file cannot be read, the error names its block."""
        memmap = np.memmap

        def failing(*args: Any, offset: int, **named: Any) -> Any:
            if offset > 24 * 20 * 4 * 3 * 9:
                raise OSError(5, "Input/output error")
            return memmap(*args, offset=offset, **named)

        decode_store(stores / "maps.npy", stores / "whole.zarr")
        with monkeypatch.context() as patch:
            patch.setattr(np, "memmap", failing)
            with pytest.raises(UnreadChunksError, match="Input/output error") as error:
                decode_store(stores / "maps.npy", stores / "out.zarr")
        (unread,) = error.value.unread
        assert (unread.path, unread.chunk) == (str(stores / "maps.npy"), (5, 0))
        lost = group_of(error.value.kept)["status"] == Status.NOT_FINITE
        np.testing.assert_array_equal(lost.all(axis=1), np.arange(11) == 10)
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        assert tree(stores / "out.zarr") == tree(stores / "whole.zarr")

    def test_the_error_travels(self, stores: Path) -> None:
        """The error can be pickled, so that it can return from a process that the user starts."""
        damaged_chunk(stores, "array.zarr")
        with pytest.raises(UnreadChunksError) as error:
            decode_store(stores / "array.zarr", stores / "out.zarr")
        again = pickle.loads(pickle.dumps(error.value))
        assert (again.unread, again.kept) == (error.value.unread, error.value.kept)
        assert str(again) == str(error.value)

    def test_a_rule_gives_no_sentinel_for_them(self, stores: Path) -> None:
        damaged_chunk(stores, "array.zarr")
        with pytest.raises(UnreadChunksError) as error:
            decode_store(stores / "array.zarr", stores / "out.zarr", decoder=OTHER)
        assert np.isnan(group_of(error.value.kept)["coords"][2:4, 2]).all()


class TestMissingChunks:
    """A missing chunk is read as the fill value, or is refused like an unreadable one."""

    @pytest.mark.parametrize("name", ["array.zarr", "group.zarr", "sharded.zarr", "maps.h5"])
    def test_missing(self, stores: Path, maps: np.ndarray, name: str) -> None:
        lost = _without_chunks(stores, maps, name)
        decode_store(stores / name, stores / "out.zarr", key="heatmaps")
        status = group_of(stores / "out.zarr")["status"]
        assert (status[lost] == Status.NO_PEAK).all()
        with pytest.raises(UnreadChunksError, match="it is not stored, and would read as") as error:
            decode_store(
                stores / name, stores / "r.zarr", key="heatmaps", refuse_missing_chunks=True
            )
        found = group_of(error.value.kept)["status"]
        np.testing.assert_array_equal(found == Status.NOT_FINITE, lost)
        np.testing.assert_array_equal(found[~lost], status[~lost])
        with pytest.raises(ValueError, match="another refuse_missing_chunks: it was True"):
            decode_store(stores / name, stores / "r.zarr", key="heatmaps", resume=True)

    def test_nothing_is_missing(self, stores: Path) -> None:
        for name in SOURCES:
            for refuse in (False, True):
                target = stores / f"{refuse}.zarr"
                decode_store(stores / name, target, refuse_missing_chunks=refuse, overwrite=True)
            filled, refused = (group_of(stores / f"{each}.zarr") for each in (False, True))
            np.testing.assert_array_equal(refused["coords"], filled["coords"])


def _without_chunks(stores: Path, maps: np.ndarray, name: str) -> np.ndarray:
    """Write a store that lacks a chunk; return a mask of the maps that are lost."""
    import h5py

    lost = np.zeros(SHAPE[:2], bool)
    lost[2:4, 2] = True
    if name == "maps.h5":
        with h5py.File(stores / name, "w") as file:
            made = file.create_dataset("heatmaps", SHAPE, "f4", chunks=CHUNKS)
            for image in range(0, SHAPE[0], 2):
                for joint in range(SHAPE[1]):
                    if (image, joint) != (2, 2):
                        part = (slice(image, image + 2), slice(joint, joint + 1))
                        made[part] = maps[part]
        return lost
    group = zarr.create_group(stores / name, overwrite=True, zarr_format=3)
    if name == "sharded.zarr":
        lost[2:4] = True
        shards = (2, 3, *SHAPE[2:])
        group.create_array("heatmaps", data=maps, chunks=(1, 1, *SHAPE[2:]), shards=shards)
        (stores / name / "heatmaps" / "c" / "1" / "0" / "0" / "0").unlink()
    elif name == "array.zarr":
        group.create_array("heatmaps", data=maps, chunks=CHUNKS)
        (stores / name / "heatmaps" / "c" / "1" / "2" / "0" / "0").unlink()
    else:
        old = zarr.create_group(stores / name, overwrite=True, zarr_format=2)
        old.create_array("heatmaps", data=maps, chunks=CHUNKS)
        (stores / name / "heatmaps" / "1.2.0.0").unlink()
    return lost


class TestHeaders:
    """A ``.npy`` file is as long as its header says, or is refused before anything is decoded."""

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((100_000, 17, 24, 20), "has 5000 bytes of values, but shape (100000, 17, 24, 20)"),
            ((10**9, 24, 20), "bytes of values, but shape (1000000000, 24, 20)"),
            ((2**40, 2**40, 2**40), "need 5316911983139663491615228241121378304: it was cut off"),
            ((-1, 24, 20), "bytes of values, but shape (-1, 24, 20)"),
        ],
    )
    def test_it_lies(self, tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
        with (tmp_path / "in.npy").open("wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(bytes(5000))
        with pytest.raises(ValueError, match=re.escape(message)):
            decode_store(tmp_path / "in.npy", tmp_path / "out.zarr")
        assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]

    def test_sides_beyond_31_bits(self, tmp_path: Path) -> None:
        """Maps of such sides are refused, because float32 cannot count their pixels.

        Other axes may have this length.
        """
        zarr.create_array(
            tmp_path / "wide.zarr", shape=(1, 2**31 + 8), chunks=(1, 2**20), dtype="u1"
        )
        with pytest.raises(
            ValueError, match=r"wide\.zarr must have maps of at most 16777216 pixels"
        ):
            decode_store(tmp_path / "wide.zarr", tmp_path / "out.zarr")
        with (tmp_path / "long.npy").open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (2**31 + 8, 1, 1)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + 2**31 + 8)  # uses no disk space
        with readers.opened(tmp_path / "long.npy") as reader:
            last = reader.read((slice(2**31, 2**31 + 8), slice(0, 1), slice(0, 1)))
        assert last.shape == (8, 1, 1)
