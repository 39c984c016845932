"""Stores of heatmaps: every source and target, and nothing lost on the way."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status, UnreadChunksError, decode_store, engine, pieces, rules
from dark_jax.pieces import Pieces, cut
from dark_jax.targets import Target
from dark_jax.unfinished import Unfinished
from tests import synthetic, tolerances

zarr = pytest.importorskip("zarr")
h5py = pytest.importorskip("h5py")
parquet = pytest.importorskip("pyarrow.parquet")
distributed = pytest.importorskip("distributed")
pytest.importorskip("click")

from dark_jax import cli  # noqa: E402  (imports click itself)

SHAPE = (11, 3, 24, 20)
CHUNKS = (2, 1, 24, 20)
SOURCES = ("maps.npy", "array.zarr", "group.zarr", "maps.h5")
TARGETS = (".zarr", ".parquet")
FIELDS = ("coords", "scores", "status")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a piece: six pieces, the last of which is shorter."""
    monkeypatch.setattr(pieces, "GOAL", 2 * 3 * 24 * 20 * 4)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    values, _ = synthetic.gaussians(0, 33, SHAPE[2:], sigma=2.0, noise=0.01)
    values[4] = 0  # no peak
    return values.reshape(SHAPE)


@pytest.fixture(scope="module")
def expected(maps: np.ndarray) -> Keypoints:
    return dark_jax.decode(maps)


@pytest.fixture
def stores(tmp_path: Path, maps: np.ndarray) -> Path:
    """A folder with the same maps in every kind of store."""
    np.save(tmp_path / "maps.npy", maps)
    write_zarr(tmp_path / "array.zarr", maps)
    group = zarr.create_group(tmp_path / "group.zarr", zarr_format=2)
    group.create_array("heatmaps", data=maps, chunks=CHUNKS)
    group.create_array("other", data=maps[:1])
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file.create_dataset("a/b", data=maps[:, :, :, :3])
        file.create_dataset("heatmaps", data=maps, chunks=CHUNKS, compression="gzip")
    return tmp_path


def write_zarr(path: Path, values: np.ndarray, chunks: tuple[int, ...] = CHUNKS) -> None:
    zarr.create_array(path, data=values, chunks=chunks)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file by its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def group_of(path: Path) -> dict[str, np.ndarray]:
    return {name: array[...] for name, array in zarr.open_group(path, mode="r").arrays()}


def assert_same(found: dict[str, np.ndarray], expected: Keypoints) -> None:
    """As one program decodes them all at once, but for the last digit of float32."""
    np.testing.assert_array_equal(found["status"], expected.status)
    np.testing.assert_array_equal(found["scores"], expected.scores)
    np.testing.assert_allclose(
        found["coords"], expected.coords, rtol=tolerances.COMPILED, atol=tolerances.COMPILED
    )


class TestPieces:
    @pytest.mark.parametrize(
        ("shape", "chunks", "axes", "size"),
        [
            ((100, 3, 10, 10), None, (2, 3), (6, 3)),  # 7200 of 8000 bytes
            ((100, 3, 10, 10), (4, 3, 10, 10), (2, 3), (4, 3)),  # a whole chunk
            ((100, 3, 10, 10), (2, 1, 10, 10), (2, 3), (6, 3)),  # three by three chunks
            ((100, 3, 10, 10), (50, 1, 5, 5), (2, 3), (50, 1)),  # no less than a chunk
            ((1, 100, 10, 10), None, (2, 3), (1, 20)),  # not along the first axis
            ((2, 100, 10, 10), None, (2, 3), (1, 20)),
            ((100, 10, 10, 3), None, (1, 2), (6, 3)),  # channels-last
            ((10, 10), None, (0, 1), ()),
            ((3, 100, 100), None, (1, 2), (1,)),  # no less than a map
            ((5, 2, 10, 10), (64, 64, 64, 64), (2, 3), (5, 2)),
        ],
    )
    def test_sizes(
        self,
        shape: tuple[int, ...],
        chunks: tuple[int, ...] | None,
        axes: tuple[int, ...],
        size: tuple[int, ...],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(pieces, "GOAL", 8000)
        found = cut(shape, 4, chunks, axes)
        assert found.size == size
        assert found.volume * 4 <= 8000 or found.size == tuple(
            (chunks or (1,) * 9)[axis] for axis in range(len(shape)) if axis not in axes
        )

    @pytest.mark.parametrize("axes", [(2, 3), (1, 2), (0, 2), (3,)])
    def test_every_map_is_in_one_piece(self, axes: tuple[int, ...]) -> None:
        shape = (5, 4, 3, 2)
        others = tuple(n for axis, n in enumerate(shape) if axis not in axes)
        grid = Pieces(shape, axes, (2,) * len(others))
        seen, scores = np.zeros(shape, int), np.zeros(others, int)
        for number, index in enumerate(grid):
            assert grid.number(index) == number
            seen[grid.region(index)] += 1
            scores[grid.part(index)] += 1
            assert scores[grid.part(index)].size == grid.maps(index)
            full = np.pad(seen[grid.region(index)], grid.padding(index)).shape
            assert np.prod(full) == grid.volume
        assert (seen == 1).all()
        assert (scores == 1).all()


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


def test_fit_has_a_covariance(stores: Path, maps: np.ndarray) -> None:
    expected = dark_jax.decode_fit(maps, sigma=2.0)
    for suffix in TARGETS:
        decode_store(stores / "maps.npy", stores / f"out{suffix}", sigma=2.0, fit=True)
    found = group_of(stores / "out.zarr")
    assert_same(found, expected)
    np.testing.assert_allclose(found["covariance"], expected.covariance, rtol=1e-4)
    assert np.isinf(found["covariance"][1, 1]).all()  # no peak
    table = parquet.read_table(stores / "out.parquet")
    assert table["cxx"].null_count == 1
    np.testing.assert_allclose(table["cxx"][0].as_py(), expected.covariance[0, 0, 0, 0], rtol=1e-4)
    about = dict(zarr.open_group(stores / "out.zarr", mode="r").attrs)
    assert (about["decoder"], about["sigma"]) == ("decode_fit", 2.0)


def test_rules(stores: Path, maps: np.ndarray) -> None:
    expected = dark_jax.decode(maps, rule=rules.VITPOSE, kernel_size=5)
    decode_store(stores / "maps.npy", stores / "o.zarr", rule=rules.VITPOSE, kernel_size=5)
    assert_same(group_of(stores / "o.zarr"), expected)


@pytest.mark.parametrize(
    ("order", "axes"), [((0, 2, 3, 1), (-3, -2)), ((2, 3, 0, 1), (0, 1)), ((1, 2, 0, 3), (1, 3))]
)
def test_layouts(
    tmp_path: Path, maps: np.ndarray, order: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    """Any axes may be the maps'; the others are cut."""
    moved = np.ascontiguousarray(maps.transpose(order))
    write_zarr(tmp_path / "in.zarr", moved, tuple(CHUNKS[axis] for axis in order))
    np.save(tmp_path / "in.npy", moved)
    for name in ("in.zarr", "in.npy"):
        decode_store(tmp_path / name, tmp_path / "out.zarr", axes=axes, overwrite=True)
        assert_same(group_of(tmp_path / "out.zarr"), dark_jax.decode(moved, axes=axes))


@pytest.mark.parametrize("shape", [(24, 20), (3, 24, 20), (2, 1, 3, 24, 20)])
def test_ranks(tmp_path: Path, maps: np.ndarray, shape: tuple[int, ...]) -> None:
    few = maps.reshape(-1)[: np.prod(shape)].reshape(shape)
    np.save(tmp_path / "in.npy", few)
    for suffix in TARGETS:
        decode_store(tmp_path / "in.npy", tmp_path / f"out{suffix}")
    found = group_of(tmp_path / "out.zarr")
    assert found["coords"].shape == (*shape[:-2], 2)
    assert_same(found, dark_jax.decode(few))
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    named = dict(zip(("joint", "instance", "image"), reversed(shape[:-2]), strict=False))
    for number, index in enumerate(np.ndindex(shape[:-2])):
        place = dict(zip(reversed(named), index, strict=True))
        assert {name: rows[number][name] for name in place} == place


@pytest.mark.parametrize("dtype", ["uint8", ">f4", "float16", "float64"])
def test_types(tmp_path: Path, maps: np.ndarray, dtype: str) -> None:
    values = (200 * np.clip(maps, 0, 1)).astype(dtype)
    np.save(tmp_path / "in.npy", values)
    decode_store(tmp_path / "in.npy", tmp_path / "out.zarr")
    found = group_of(tmp_path / "out.zarr")
    assert found["coords"].dtype == np.float32
    assert_same(found, dark_jax.decode(values))


def test_members(stores: Path, maps: np.ndarray) -> None:
    """Another array than the default, also deep in a file."""
    for name, key, part in (
        ("group.zarr", "other", maps[:1]),
        ("maps.h5", "a/b", maps[:, :, :, :3]),
    ):
        decode_store(stores / name, stores / "out.zarr", key=key, overwrite=True)
        assert_same(group_of(stores / "out.zarr"), dark_jax.decode(part))


def test_progress(stores: Path) -> None:
    told: list[tuple[int, int]] = []
    decode_store(
        stores / "maps.npy", stores / "out.zarr", progress=lambda *numbers: told.append(numbers)
    )
    assert (told[0], told[-1]) == ((0, 33), (33, 33))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) == 7


def test_on_a_scheduler(stores: Path) -> None:
    """One that runs already, and stays; the same bytes as from threads."""
    decode_store(stores / "maps.h5", stores / "threads.zarr")
    with distributed.LocalCluster(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as cluster:
        for _ in range(2):
            decode_store(
                stores / "maps.h5",
                stores / "out.zarr",
                scheduler=cluster.scheduler_address,
                overwrite=True,
            )
    assert tree(stores / "out.zarr") == tree(stores / "threads.zarr")


class FullError(OSError):
    pass


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """A disk that is full after so many files."""
    put, written = Target._put, []

    def limit(count: int | None) -> None:
        def limited(self: Target, name: str, contents: bytes) -> None:
            if count is not None and len(written) >= count:
                raise FullError(28, "No space left on device", name)
            written.append(name)
            put(self, name, contents)

        written.clear()
        monkeypatch.setattr(Target, "_put", limited)

    return limit


class TestNothingIsLost:
    @pytest.mark.parametrize("suffix", TARGETS)
    @pytest.mark.parametrize("count", [1, 2, 7, 14])
    def test_resumed(
        self, stores: Path, suffix: str, count: int, full_after: Callable[[int | None], None]
    ) -> None:
        """What is there is not done again, and the bytes are an uninterrupted run's."""
        source, target = stores / "array.zarr", stores / f"out{suffix}"
        decode_store(source, stores / f"whole{suffix}")
        whole = tree(stores / f"whole{suffix}")
        full_after(count if suffix == ".zarr" else 1 + count // 3)  # the first is not a piece
        with pytest.raises(FullError):
            decode_store(source, target)
        assert not target.exists()
        with pytest.raises(FileExistsError, match="unfinished run: resume it, or overwrite it"):
            decode_store(source, target)
        full_after(None)
        there = tree(stores / f"out{suffix}.incomplete" / "result")
        last = "status/c.{}.0" if suffix == ".zarr" else "part-{:08d}.parquet"
        kept = sum(3 if n == 5 else 6 for n in range(6) if last.format(n) in there)
        assert (kept > 0) == (count > 2)
        told: list[int] = []
        decode_store(source, target, resume=True, progress=lambda done, _: told.append(done))
        assert told[0] == kept
        assert tree(target) == whole
        assert not (stores / f"out{suffix}.incomplete").exists()

    def test_a_torn_piece_is_done_again(
        self, stores: Path, full_after: Callable[[int | None], None]
    ) -> None:
        """What a file system may leave when the power goes: a file without contents."""
        full_after(9)
        with pytest.raises(FullError):
            decode_store(stores / "maps.npy", stores / "out.zarr")
        status = stores / "out.zarr.incomplete" / "result" / "status"
        (status / "c.0.0").write_bytes(b"")
        full_after(None)
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        decode_store(stores / "maps.npy", stores / "whole.zarr")
        assert tree(stores / "out.zarr") == tree(stores / "whole.zarr")

    def test_resume_begins_and_ends(self, stores: Path) -> None:
        """As a job script calls it: from nothing, and again when all is done."""
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        before = {p: p.stat().st_mtime_ns for p in (stores / "out.zarr").rglob("*")}
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        assert before == {p: p.stat().st_mtime_ns for p in (stores / "out.zarr").rglob("*")}

    @pytest.mark.parametrize("resumed", [True, False])
    def test_the_old_stays_until_the_new_is_complete(
        self, stores: Path, resumed: bool, full_after: Callable[[int | None], None]
    ) -> None:
        source, target = stores / "maps.npy", stores / "out.zarr"
        decode_store(source, target, kernel_size=5)
        old = tree(target)
        with pytest.raises(FileExistsError, match="exists: overwrite it, or choose another"):
            decode_store(source, target)
        full_after(5)
        with pytest.raises(FullError):
            decode_store(source, target, overwrite=True)
        assert tree(target) == old
        full_after(None)
        decode_store(source, target, resume=resumed, overwrite=not resumed)
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")
        assert sorted(p.name for p in stores.glob("out.zarr*")) == ["out.zarr"]

    @pytest.mark.parametrize("begun", [True, False])
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kernel_size": 5}, "another kernel_size: it was 11, now it is 5"),
            ({"rule": rules.HRNET}, "another rule: it was 'GUARDED', now it is 'HRNET'"),
            ({"sigma": 2.0, "fit": True}, "another decoder"),
        ],
    )
    def test_resumed_with_something_else(
        self,
        stores: Path,
        options: dict[str, Any],
        message: str,
        begun: bool,
        full_after: Callable[[int | None], None],
    ) -> None:
        """Neither what is unfinished nor what is complete."""
        source, target = stores / "maps.npy", stores / "out.zarr"
        if begun:
            full_after(3)
            with pytest.raises(FullError):
                decode_store(source, target)
        else:
            decode_store(source, target)
        before = tree(stores)
        with pytest.raises(ValueError, match=message):
            decode_store(source, target, resume=True, **options)
        with pytest.raises(ValueError, match="another source"):
            decode_store(stores / "array.zarr", target, resume=True)
        assert tree(stores) == before

    def test_two_runs(self, stores: Path) -> None:
        """The second refuses, whatever it asks for, and spoils nothing."""
        source, target = stores / "maps.npy", stores / "out.zarr"
        refused = []

        def meanwhile(done: int, total: int) -> None:
            asked: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]
            for options in asked:
                with pytest.raises(OSError, match=r"another run|unfinished run") as error:
                    decode_store(source, target, **options)
                refused.append(type(error.value))

        decode_store(source, target, progress=meanwhile)
        assert refused == [FileExistsError, BlockingIOError, BlockingIOError] * 7
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")

    def test_interrupted(self, stores: Path) -> None:
        """Ctrl-C: no piece is under way any more when the error arrives, and it resumes."""
        source, target = stores / "maps.npy", stores / "out.zarr"

        def stop(done: int, total: int) -> None:
            if done > 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            decode_store(source, target, progress=stop)
        assert not target.exists()
        assert not [*(stores / "out.zarr.incomplete" / "spare").iterdir()]
        decode_store(source, target, resume=True)
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")

    def test_killed_between_presenting_and_clearing(
        self, stores: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Unfinished, "clear", lambda self: None)
            decode_store(stores / "maps.npy", stores / "out.zarr")
        assert (stores / "out.zarr.incomplete").exists()
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        assert not (stores / "out.zarr.incomplete").exists()


def damaged_chunk(stores: Path, name: str) -> tuple[Path, tuple[int, ...], tuple[int, int], str]:
    """Damage a store: the file, the chunk, the range of the images it spoils, the array's path."""
    if name == "array.zarr":
        path = stores / name / "c" / "1" / "2" / "0" / "0"
        path.write_bytes(path.read_bytes()[:50])
        return path, (1, 2, 0, 0), (2, 4), str(stores / name)
    if name == "maps.h5":
        path = stores / name
        with h5py.File(path) as file:
            stored = file["heatmaps"].id.get_chunk_info_by_coord((2, 2, 0, 0))
        contents = bytearray(path.read_bytes())
        contents[stored.byte_offset : stored.byte_offset + stored.size] = bytes(stored.size)
        path.write_bytes(contents)
        return path, (1, 2, 0, 0), (2, 4), f"{path}/heatmaps"
    path = stores / name
    os.truncate(path, path.stat().st_size - 5000)
    return path, (5, 0), (10, 11), str(path)


class TestUnreadChunks:
    @pytest.mark.parametrize("name", ["array.zarr", "maps.h5", "maps.npy"])
    @pytest.mark.parametrize("suffix", TARGETS)
    def test_the_rest_is_kept(self, stores: Path, name: str, suffix: str, maps: np.ndarray) -> None:
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
        expected = dark_jax.decode(maps)
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
            decode_store(stores / "array.zarr", stores / "out.zarr", rule=rules.DARKPOSE)
        assert np.isnan(group_of(error.value.kept)["coords"][2:4, 2]).all()

    def test_the_command_names_them(self, stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
        damaged_chunk(stores, "array.zarr")
        (stores / "array.zarr" / "c" / "4" / "0" / "0" / "0").write_bytes(b"")
        arguments = ["decode", str(stores / "array.zarr"), "-o", str(stores / "out.zarr")]
        assert cli.run(arguments) == 1
        out, err = capsys.readouterr()
        assert out == ""
        first, second, kept = err.splitlines()
        assert first.startswith(f"dark-jax: {stores / 'array.zarr'}: chunk (1, 2, 0, 0): ")
        assert second.startswith(f"dark-jax: {stores / 'array.zarr'}: chunk (4, 0, 0, 0): ")
        assert kept == (
            f"dark-jax: the rest is kept in {stores / 'out.zarr.incomplete' / 'result'}; "
            "--resume goes on"
        )


class TestCommand:
    def test_everything_at_once(
        self, stores: Path, maps: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        moved = np.ascontiguousarray(np.moveaxis(maps, 1, -1))
        write_zarr(stores / "last.zarr", moved, (2, 24, 20, 3))
        target = stores / "out.zarr"
        for extra in ([], ["--overwrite"], ["--resume"]):
            options = ["--axes", "-3,-2", "--sigma", "2", "--fit", *extra]
            assert cli.run(["decode", str(stores / "last.zarr"), "-o", str(target), *options]) == 0
            assert capsys.readouterr() == (f"wrote {target}\n", "")
        assert_same(group_of(target), dark_jax.decode_fit(maps, sigma=2.0))
        arguments = ["--rule", "VITPOSE", "--kernel-size", "3", "--key", "heatmaps"]
        source, target = stores / "maps.h5", stores / "out.parquet"
        assert cli.run(["decode", str(source), "-o", str(target), *arguments]) == 0
        about = parquet.read_table(target).schema.metadata[b"about"]
        assert json.loads(about)["rule"] == "VITPOSE"

    def test_npy_is_a_store_where_it_is_treated_as_one(self, stores: Path) -> None:
        source = str(stores / "maps.npy")
        assert cli.run(["decode", source, "-o", str(stores / "one.parquet")]) == 0
        assert (stores / "one.parquet").is_file()
        assert cli.run(["decode", source, "-o", str(stores / "out.parquet"), "--resume"]) == 0
        assert (stores / "out.parquet").is_dir()
        assert cli.run(["decode", source, "-o", str(stores / "out.zarr")]) == 0
        assert (stores / "out.zarr").is_dir()

    def test_maps_in_memory_take_the_same_options(self, stores: Path, maps: np.ndarray) -> None:
        np.save(stores / "last.npy", np.moveaxis(maps, 1, -1))
        for expected, options in (
            (dark_jax.decode(maps, rule=rules.HRNET), ["--rule", "HRNET"]),
            (dark_jax.decode_fit(maps, sigma=2.0), ["--fit", "--sigma", "2"]),
        ):
            target = stores / "out.npz"
            source = str(stores / "last.npy")
            assert cli.run(["decode", source, "-o", str(target), "--axes=-3,-2", *options]) == 0
            with np.load(target) as found:
                np.testing.assert_array_equal(found["coords"], expected.coords)

    def test_a_row_of_bins(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rows = np.asarray(
            dark_jax.encode(np.array([[[3.0], [9.5]]]), size=(20,), axes=(-1,), sigma=1.5)
        )
        np.save(tmp_path / "rows.npy", rows)
        assert cli.run(["decode", str(tmp_path / "rows.npy"), "--axes", "-1"]) == 0
        out = capsys.readouterr().out
        assert "9.500" in out
        assert "2 of 2 keypoints refined" in out

    def test_the_bar(self, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal: the share, the rate and what is left. Elsewhere nothing (tested above)."""
        import io

        stream = io.StringIO()
        stream.isatty = lambda: True  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        arguments = ["decode", str(stores / "maps.npy"), "-o", str(stores / "out.zarr")]
        assert cli.run(arguments) == 0
        for part in ("100%", "33 of 33 maps", "/s", "0:00:00"):
            assert part in stream.getvalue()


class TestBadInput:
    @pytest.mark.parametrize(
        ("message", "arguments"),
        [
            ("no.zarr: No such file or directory", ["no.zarr", "-o", "o.zarr"]),
            ("folder.zarr: not a readable Zarr store", ["folder.zarr", "-o", "o.zarr"]),
            ("text.h5: not a Zarr directory, an HDF5", ["text.h5", "-o", "o.zarr"]),
            ("cut.h5: not a readable HDF5 file (", ["cut.h5", "-o", "o.zarr"]),
            ("text.npy: not a readable .npy file", ["text.npy", "-o", "o.zarr"]),
            ("fortran.npy: is in Fortran order", ["fortran.npy", "-o", "o.zarr"]),
            ("flat.npy: is empty, shape (0, 5, 5)", ["flat.npy", "-o", "o.zarr"]),
            ("complex.npy must hold real numbers", ["complex.npy", "-o", "o.zarr"]),
            ("row.npy must have axes (-2, -1), got shape (5,)", ["row.npy", "-o", "o.zarr"]),
            ("a .npy file has no keys", ["maps.npy", "-o", "o.zarr", "--key", "a"]),
            ("is one array and has no keys", ["array.zarr", "-o", "o.zarr", "--key", "a"]),
            ("group.zarr: no array 'c'; it has", ["group.zarr", "-o", "o.zarr", "--key", "c"]),
            ("maps.h5: no array 'a'; it has heat", ["maps.h5", "-o", "o.zarr", "--key", "a"]),
            ("store: --output must end in .zarr, .parquet", ["array.zarr"]),
            (".parquet, got 'o.csv'", ["array.zarr", "-o", "o.csv"]),
            ("there is no folder", ["array.zarr", "-o", "no/o.zarr"]),
            ("would overwrite what is read", ["array.zarr", "-o", "array.zarr"]),
            ("would overwrite what is read", ["array.zarr", "-o", "array.zarr/o.zarr"]),
            ("dark_jax did not make it", ["maps.npy", "-o", "group.zarr", "--overwrite"]),
            ("dark_jax did not make it", ["maps.npy", "-o", "group.zarr", "--resume"]),
            ("group.zarr exists", ["maps.npy", "-o", "group.zarr"]),
            ("more axes than [B, I, J]", ["deep.npy", "-o", "o.parquet", "--resume"]),
            ("--axes must be integers", ["maps.npy", "-o", "o.zarr", "--axes", "a,b"]),
            ("must be in increasing order", ["maps.npy", "-o", "o.zarr", "--axes", "-1,-2"]),
            ("must have axes (-7,)", ["maps.npy", "-o", "o.zarr", "--axes", "-7"]),
            ("--fit needs --sigma", ["maps.npy", "-o", "o.zarr", "--fit"]),
            ("excludes --rule", ["a.zarr", "--fit", "--sigma", "1", "--rule", "HRNET"]),
            ("'SEED' is not", ["maps.npy", "-o", "o.zarr", "--rule", "SEED"]),
            ("HRNET", ["maps.npy", "-o", "o.zarr", "--rule", "HRNET", "--sigma", "2"]),
            ("MMPOSE_SIMCC", ["maps.npy", "-o", "o.zarr", "--rule", "MMPOSE_SIMCC"]),
            ("workers must be an integer of at", ["maps.npy", "-o", "o.zarr", "--workers", "0"]),
            ("exclude each other", ["maps.npy", "-o", "o.zarr", "--resume", "--overwrite"]),
            (
                "exclude each other",
                ["maps.npy", "-o", "o.zarr", "--workers", "2", "--scheduler", "tcp://a:1"],
            ),
            ("need a SOURCE that is a store", ["--resume"]),
            (
                "--overlay is for maps that fit",
                ["array.zarr", "-o", "o.zarr", "--overlay", "o.png"],
            ),
        ],
    )
    def test_one_line_and_nothing_written(
        self,
        stores: Path,
        message: str,
        arguments: list[str],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (stores / "folder.zarr").mkdir()
        (stores / "text.h5").write_text("hello")
        (stores / "text.npy").write_text("hello")
        (stores / "cut.h5").write_bytes((stores / "maps.h5").read_bytes()[:5000])
        for name, array in {
            "fortran": np.asfortranarray(np.ones((4, 5, 5))),
            "flat": np.ones((0, 5, 5)),
            "complex": np.ones((5, 5), complex),
            "row": np.ones(5),
            "deep": np.ones((1, 1, 1, 2, 5, 5)),
        }.items():
            np.save(stores / f"{name}.npy", array)
        monkeypatch.chdir(stores)
        before = tree(stores)
        assert cli.run(["decode", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("dark-jax: ")
        assert err.count("\n") == 1
        assert message in err
        assert tree(stores) == before
        assert not (stores / "o.zarr.incomplete").exists()

    def test_no_scheduler(self, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "PATIENCE", 0.5)
        with pytest.raises(OSError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:1 "):
            decode_store(stores / "maps.npy", stores / "o.zarr", scheduler="tcp://127.0.0.1:1")
        assert not (stores / "o.zarr.incomplete").exists()

    def test_rules_that_have_no_name(self, stores: Path) -> None:
        mine = dataclasses.replace(rules.GUARDED, longest=3.0)
        with pytest.raises(ValueError, match=r"rule must be one of dark_jax\.rules"):
            decode_store(stores / "maps.npy", stores / "o.zarr", rule=mine)

    @pytest.mark.parametrize("module", ["zarr", "dask", "locket", "h5py"])
    def test_missing_extra(
        self, stores: Path, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        before = tree(stores)
        with pytest.raises(ImportError, match=r'pip install "dark_jax\[store\]"'):
            decode_store(stores / "maps.h5", stores / "o.zarr")
        assert tree(stores) == before
