"""The decoded array of a file is the named one, or the only one that can be heatmaps."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dark_jax import Keypoints, decode_store
from dark_jax._io import heatmap_files
from dark_jax._stores import readers
from tests.stores.cases import assert_same, group_of

h5py: Any = pytest.importorskip("h5py")
zarr: Any = pytest.importorskip("zarr")
pytest.importorskip("pyarrow")
pytest.importorskip("dask")

# Arrays that files of laboratories hold beside heatmaps, and that cannot be heatmaps.
OTHERS = {"scores": np.ones(7, np.float32), "names": np.array([b"a", b"b"]), "count": np.int64(7)}


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write the arrays in the format of the suffix. An ``.npz`` file cannot have folders."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    elif path.suffix == ".npz":
        named: Any = {name.replace("/", "."): values for name, values in arrays.items()}
        np.savez(path, **named)
    else:
        group = zarr.create_group(path, zarr_format=2 if "2" in path.name else 3)
        for name, values in arrays.items():
            if values.dtype.kind != "S":
                group.create_array(name, data=np.atleast_1d(values))
        if "flat" in path.name:
            with warnings.catch_warnings(action="ignore"):  # not part of version 3 yet
                zarr.consolidate_metadata(path)
    return path


def scores_of(path: Path, out: Path, **options: Any) -> np.ndarray:
    """The scores of the array that the reader of this kind of file chooses."""
    if path.suffix == ".npz":
        return heatmap_files.read_heatmaps(path, **options).max((-2, -1))
    decode_store(path, out, **options)
    found = group_of(out)["scores"]
    shutil.rmtree(out)
    return found


KINDS = ("in.h5", "in3.zarr", "in2.zarr", "in2_flat.zarr", "in3_flat.zarr", "in.npz")


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_one_that_can_be(
    tmp_path: Path, maps: np.ndarray, expected: Keypoints, kind: str
) -> None:
    """The only array that can be heatmaps is found at any depth, beside any other arrays."""
    path = write(tmp_path / kind, {**OTHERS, "run/pred/maps": maps})
    np.testing.assert_array_equal(scores_of(path, tmp_path / "out.zarr"), expected.scores)


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_none_is_taken(tmp_path: Path, maps: np.ndarray, kind: str) -> None:
    """The error lists the arrays that can be heatmaps.

    The ``key`` decides which one is decoded, or else the name "heatmaps".
    """
    arrays = {**OTHERS, "ids": np.ones((3, 2)), "pred/maps": maps}
    path, dot = write(tmp_path / kind, arrays), "." if kind == "in.npz" else "/"
    with pytest.raises(
        ValueError, match=r"choose one of its arrays, such as key='pred.maps'; it"
    ) as e:
        scores_of(path, tmp_path / "out.zarr")
    for listed in ("ids [3, 2] float64", f"pred{dot}maps [11, 3, 24, 20] float32"):
        assert listed in str(e.value)
    assert "scores" not in str(e.value)
    found = scores_of(path, tmp_path / "out.zarr", key=f"pred{dot}maps")
    np.testing.assert_array_equal(found, maps.max((-2, -1)))
    with pytest.raises(ValueError, match=r"no array 'nothing'; it has .*scores \[7\] float32"):
        scores_of(path, tmp_path / "out.zarr", key="nothing")

    named = write(tmp_path / f"named_{kind}", {**arrays, "heatmaps": maps[:2]})
    np.testing.assert_array_equal(scores_of(named, tmp_path / "out.zarr"), maps[:2].max((-2, -1)))


@pytest.mark.parametrize("kind", KINDS)
def test_none_can_be(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / kind, OTHERS)
    message = r"none of its arrays can be heatmaps, .* along 2 axes or more; it has .*scores \[7\]"
    with pytest.raises(ValueError, match=message):
        scores_of(path, tmp_path / "out.zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_described_by_the_group_alone(
    tmp_path: Path, maps: np.ndarray, expected: Keypoints, version: int
) -> None:
    """Zarr's consolidated metadata is enough if the arrays have no metadata of their own."""
    path = write(tmp_path / f"in{version}_flat.zarr", {"pred/maps": maps, "ids": np.ones(3)})
    for name in (".zarray", ".zgroup", "zarr.json"):
        for own in (path / "pred").rglob(name):
            own.unlink()
    np.testing.assert_array_equal(scores_of(path, tmp_path / "out.zarr"), expected.scores)


def test_folders_in_a_circle(tmp_path: Path, maps: np.ndarray, expected: Keypoints) -> None:
    path = write(tmp_path / "in3.zarr", {"pred/maps": maps})
    (path / "pred" / "up").symlink_to(path)
    np.testing.assert_array_equal(scores_of(path, tmp_path / "out.zarr"), expected.scores)


def test_a_damaged_member_of_hdf5(tmp_path: Path, maps: np.ndarray, expected: Keypoints) -> None:
    """A member whose header is zeros does not affect the members before and after it."""
    path = write(tmp_path / "in.h5", {"a/one": np.ones(3), "b": np.ones((2, 2)), "c/maps": maps})
    with h5py.File(path) as file:
        at = h5py.h5o.get_info(file["b"].id).addr
    contents = bytearray(path.read_bytes())
    contents[at : at + 16] = bytes(16)
    path.write_bytes(contents)
    np.testing.assert_array_equal(scores_of(path, tmp_path / "out.zarr"), expected.scores)
    with pytest.raises(ValueError, match="'b' in it cannot be read"):
        scores_of(path, tmp_path / "out.zarr", key="b")


def test_a_type_that_numpy_lacks(tmp_path: Path, maps: np.ndarray, expected: Keypoints) -> None:
    path = write(tmp_path / "in.h5", {"maps": maps})
    with h5py.File(path, "a") as file:
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, space)
    np.testing.assert_array_equal(scores_of(path, tmp_path / "out.zarr"), expected.scores)
    with pytest.raises(ValueError, match=r"'time' in it cannot be read .*No NumPy equivalent"):
        scores_of(path, tmp_path / "out.zarr", key="time")


def test_each_member_is_met_once(
    tmp_path: Path, maps: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member is not compared with every other one, because files have thousands."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for n in range(100):
            file[f"n{n}"] = n
        file["pred/maps"] = maps[:2]
    compared = []
    same = h5py.Dataset.__eq__
    monkeypatch.setattr(h5py.Dataset, "__eq__", lambda *two: compared.append(two) or same(*two))
    with readers.opened(tmp_path / "in.h5") as reader:
        assert reader.key == "pred/maps"
    assert len(compared) < 100


def test_many_are_not_all_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "in.npz", {f"maps{n}": np.ones((2, 2)) for n in range(30)})
    with pytest.raises(ValueError, match=r"maps19 \[2, 2\] float64 and 10 more$"):
        heatmap_files.read_heatmaps(path)


class TestLinks:
    """Links of HDF5 may lead nowhere."""

    @pytest.fixture
    def linked(self, tmp_path: Path, maps: np.ndarray) -> Path:
        """A file with two arrays. None of its other members is a readable array."""
        path = write(tmp_path / "in.h5", {"heatmaps": maps, "pred/more": maps[:2]})
        with h5py.File(path, "a") as file:
            file["soft"] = h5py.SoftLink("/nowhere")
            file["pred/soft"] = h5py.SoftLink("/nowhere")
            file["external"] = h5py.ExternalLink("nowhere.h5", "/maps")
            file["loop"] = h5py.SoftLink("/loop")
            file["round"] = h5py.SoftLink("/")
            file["null"] = h5py.Empty("f4")
            file["type"] = np.dtype("f4")
        return path

    def test_the_others_are_read(self, tmp_path: Path, linked: Path, expected: Keypoints) -> None:
        for key in (None, "heatmaps", "/heatmaps", "./heatmaps", "round/heatmaps"):
            decode_store(linked, tmp_path / "out.zarr", key=key, overwrite=True)
            assert_same(group_of(tmp_path / "out.zarr"), expected)
        with h5py.File(linked, "a") as file:
            del file["heatmaps"]
        decode_store(linked, tmp_path / "out.zarr", overwrite=True)
        assert group_of(tmp_path / "out.zarr")["scores"].shape == (2, 3)

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("soft", r"in\.h5: 'soft' in it cannot be read \(.*not found"),
            ("pred/soft", r"in\.h5: 'pred/soft' in it cannot be read \("),
            ("external", r"in\.h5: 'external' in it cannot be read \("),
            ("loop", r"in\.h5: 'loop' in it cannot be read \("),
            ("null", r"in\.h5: 'null' in it is null, without values"),
            ("type", r"in\.h5: no array 'type'; it has heatmaps \[11, 3, 24, 20\] float32"),
            ("pred", r"in\.h5: no array 'pred'; it has .*pred/more \[2, 3, 24, 20\] float32"),
            ("", r"in\.h5: no array ''; it has heatmaps"),
            ("../heatmaps", r"in\.h5: no array '\.\./heatmaps'; it has heatmaps"),
        ],
    )
    def test_by_their_names(self, tmp_path: Path, linked: Path, key: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            decode_store(linked, tmp_path / "out.zarr", key=key)

    def test_an_array_in_another_file(
        self, tmp_path: Path, maps: np.ndarray, expected: Keypoints
    ) -> None:
        """An array behind an external link counts as one array, even if it has two names."""
        write(tmp_path / "real.h5", {"pred/maps": maps})
        with h5py.File(tmp_path / "in.h5", "w") as file:
            file["there"] = h5py.ExternalLink("real.h5", "/pred/maps")
            file["again"] = h5py.SoftLink("/there")
        decode_store(tmp_path / "in.h5", tmp_path / "out.zarr")
        assert_same(group_of(tmp_path / "out.zarr"), expected)


@pytest.mark.parametrize("kind", ["in3.zarr", "in2.zarr"])
def test_broken_members_of_zarr(
    tmp_path: Path, maps: np.ndarray, expected: Keypoints, kind: str
) -> None:
    """A broken member does not affect the others. Naming it raises an error that says so."""
    path = write(tmp_path / kind, {"pred/maps": maps, "broken": np.ones((2, 2))})
    for name in (".zarray", "zarr.json"):
        if (path / "broken" / name).exists():
            (path / "broken" / name).write_text("{")
    (path / "stray").mkdir()
    (path / "note.txt").write_text("no array")
    decode_store(path, tmp_path / "out.zarr")
    assert_same(group_of(tmp_path / "out.zarr"), expected)
    for key, message in {
        "broken": r"'broken' in it cannot be read \(",
        "stray": "no array 'stray'; it has pred/maps",
        "note.txt": r"no array 'note\.txt'; it has pred/maps",
        "../in": r"'\.\./in' in it cannot be read",
    }.items():
        with pytest.raises(ValueError, match=message):
            decode_store(path, tmp_path / "o.zarr", key=key)


def test_one_key_in_many_ways(
    tmp_path: Path, maps: np.ndarray, full_after: Callable[[int | None], None]
) -> None:
    """A run resumes if its ``key`` is another spelling of the same path."""
    for kind in ("in.h5", "in3.zarr"):
        path = write(tmp_path / kind, {"a/b": maps, "c": maps})
        decode_store(path, tmp_path / "out.zarr", key="/a/b", overwrite=True)
        decode_store(path, tmp_path / "out.zarr", key="a//b/", resume=True)
        with pytest.raises(ValueError, match="another key: it was 'a/b', now it is 'c'"):
            decode_store(path, tmp_path / "out.zarr", key="c", resume=True)
    for key in (3, b"a/b", ["a"]):
        with pytest.raises(TypeError, match="key must be the name or the path of an array, got"):
            decode_store(tmp_path / "in.h5", tmp_path / "o.zarr", key=key)  # pyright: ignore[reportArgumentType]


def test_damaged_members_of_npz(tmp_path: Path, maps: np.ndarray) -> None:
    """Damaged members and files that are not arrays do not affect others, unless they are named."""
    import zipfile

    path = tmp_path / "in.npz"
    np.savez(path, maps=maps, objects=np.array([None, 1], object))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "no array")
        archive.writestr("broken.npy", b"\x93NUMPY\x09")
        archive.writestr("cut.npy", bytes(range(256)) * 9, zipfile.ZIP_DEFLATED)
        at = archive.getinfo("cut.npy").header_offset + 30 + len("cut.npy")
    contents = bytearray(path.read_bytes())
    contents[at : at + 9] = b"\xff" * 9  # a deflate stream cannot begin like this
    path.write_bytes(contents)
    found = heatmap_files.read_heatmaps(path)
    np.testing.assert_array_equal(found, maps)
    for key, message in {
        "broken": "not a readable .npz file",
        "cut": "not a readable .npz file",
        "objects": r"not a readable .npz file \(no array of numbers in it\)",
        "readme.txt": r"no array 'readme\.txt'; it has maps \[11, 3, 24, 20\] float32",
    }.items():
        with pytest.raises(ValueError, match=message):
            heatmap_files.read_heatmaps(path, key=key)
