"""Every kind of store read, whole and with chunks that cannot be."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status, UnreadChunksError, decode_store
from tests.stores.cases import OTHER, SHAPE, TARGETS, assert_same, damaged_chunk, group_of, tree
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
    assert (about["decoder"], about["rule"], about["kernel_size"]) == ("decode", "GUARDED", 11)
    assert about["status"] == {reason.name: reason.value for reason in Status}
    assert not (stores / "out.zarr.incomplete").exists()


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_to_parquet(stores: Path, name: str, expected: Keypoints) -> None:
    """The rows of a table written at once, in the same order."""
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
    assert json.loads(found.schema.metadata[b"about"])["rule"] == "GUARDED"


def test_members(stores: Path, expected: Keypoints) -> None:
    """Another array than the default, also deep in a file."""
    for name, key, part in (
        ("group.zarr", "other", slice(2, 4)),
        ("maps.h5", "a/b", slice(None, None, -1)),
    ):
        decode_store(stores / name, stores / "out.zarr", key=key, overwrite=True)
        there = jax.tree.map(lambda leaf, part=part: leaf[part], expected)
        assert_same(group_of(stores / "out.zarr"), there)


class TestUnreadChunks:
    @pytest.mark.parametrize("name", ["array.zarr", "maps.h5", "maps.npy"])
    @pytest.mark.parametrize("suffix", TARGETS)
    def test_the_rest_is_kept(
        self, stores: Path, name: str, suffix: str, expected: Keypoints
    ) -> None:
        """A chunk of one joint loses that joint alone; repaired and resumed, nothing is lost."""
        source, target = stores / name, stores / f"out{suffix}"
        decode_store(source, stores / f"whole{suffix}")
        sound = {path: path.read_bytes() for path in stores.rglob("*") if path.is_file()}
        damaged, chunk, (first, last), where = damaged_chunk(stores, name)

        for resume in (False, True):  # a second try finds it no better
            with pytest.raises(UnreadChunksError, match=r"1 chunks cannot be read") as error:
                decode_store(source, target, resume=resume)
            (unread,) = error.value.unread
            assert (unread.path, unread.chunk) == (where, chunk)
            assert unread.reason
            assert not target.exists()

        lost = np.zeros(SHAPE[:2], bool)
        lost[first:last, slice(None) if name == "maps.npy" else 2] = True
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
        decode_store(source, target, resume=True)
        assert tree(target) == tree(stores / f"whole{suffix}")

    def test_a_rule_gives_no_sentinel_for_them(self, stores: Path) -> None:
        damaged_chunk(stores, "array.zarr")
        with pytest.raises(UnreadChunksError) as error:
            decode_store(stores / "array.zarr", stores / "out.zarr", **OTHER)
        assert np.isnan(group_of(error.value.kept)["coords"][2:4, 2]).all()
