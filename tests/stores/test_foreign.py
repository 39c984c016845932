"""dark_jax does not delete or overwrite what it did not make."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, decode_store
from dark_jax._stores.checkpoint import LOCK, MARK
from tests.stores.cases import (
    OTHER,
    TARGETS,
    FullError,
    decode_and_stop,
    group_of,
    tree,
    write_zarr,
)

pytest.importorskip("zarr")
pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
pytest.importorskip("distributed")

WAYS: tuple[dict[str, Any], ...] = ({}, {"resume": True}, {"overwrite": True})


def assert_refused(stores: Path, source: Path, target: Path, error: type, message: str) -> None:
    """Assert that ``decode_store`` raises with any options and leaves all files unchanged."""
    before = tree(stores)
    for options in WAYS:
        with pytest.raises(error, match=message):
            decode_store(source, target, **options)
        assert tree(stores) == before


@pytest.mark.parametrize("suffix", TARGETS)
def test_a_file_is_no_folder_of_results(stores: Path, expected: Keypoints, suffix: str) -> None:
    """A file at the target is kept, and the message does not say that dark_jax did not make it.

    Such a file may be a table that ``save`` has written.
    """
    if suffix == ".parquet":
        dark_jax.save(expected, stores / "out.parquet")
    else:
        (stores / "out.zarr").write_text("a file")
    for options in WAYS:
        message = (
            r"out\.\w+ (exists|cannot be resumed|is not replaced): it is a file, not a folder;"
        )
        with pytest.raises(FileExistsError, match=message):
            decode_store(stores / "maps.npy", stores / f"out{suffix}", **options)
    assert (stores / f"out{suffix}").is_file()


class TestSourceAndTarget:
    """Source and target must not be the same or contain one another, under any name."""

    @pytest.mark.parametrize(
        ("source", "target"),
        [
            ("array.zarr", "array.zarr"),
            ("array.zarr", "array.zarr/out.zarr"),
            ("out.zarr/in.zarr", "out.zarr"),
            ("out.zarr.incomplete", "out.zarr"),
            ("out.zarr.incomplete/in.npy", "out.zarr"),
            ("out.zarr.incomplete/result/in.zarr", "out.zarr"),
            ("array.zarr", "array.zarr/../array.zarr"),
            ("link.zarr", "array.zarr"),
            ("array.zarr", "link.zarr"),
            ("array.zarr", "folder/out.zarr"),  # the folder is a link into the source
            ("folder", "array.zarr/c/out.zarr"),
        ],
    )
    def test_apart(self, stores: Path, maps: np.ndarray, source: str, target: str) -> None:
        (stores / "link.zarr").symlink_to("array.zarr")
        (stores / "folder").symlink_to("array.zarr")
        for name in ("out.zarr/in.zarr", "out.zarr.incomplete/result/in.zarr"):
            (stores / name).parent.mkdir(parents=True)
            write_zarr(stores / name, maps)
        if source == "out.zarr.incomplete":
            shutil.rmtree(stores / source)
            write_zarr(stores / source, maps)
        else:
            np.save(stores / "out.zarr.incomplete" / "in.npy", maps)
        message = "would overwrite what is read from"
        assert_refused(stores, stores / source, stores / target, ValueError, message)

    def test_links_of_other_names(self, stores: Path, scheduler: str) -> None:
        """The suffix of a link counts, not the name of the file or folder that it points to.

        Some caches name files by their contents and link to them.
        """
        (stores / "maps.npy").rename(stores / "blob")
        (stores / "maps.npy").symlink_to("blob")
        (stores / "out.zarr").symlink_to("folder")
        decode_store(stores / "maps.npy", stores / "out.zarr", scheduler=scheduler)
        assert group_of(stores / "folder").keys() == {"coords", "scores", "status"}

    def test_a_link_is_followed(self, stores: Path) -> None:
        """The results are written where the link points, and the link stays."""
        (stores / "there").mkdir()
        (stores / "out.zarr").symlink_to("there/real.zarr")
        for options in WAYS[:1] + WAYS[:0:-1]:
            decode_store(stores / "maps.npy", stores / "out.zarr", **options)
            assert (stores / "out.zarr").is_symlink()
            assert sorted(path.name for path in (stores / "there").iterdir()) == ["real.zarr"]


class TestForeign:
    @pytest.mark.parametrize("kind", ["folder", "file", "link"])
    def test_the_folder_beside_the_target(self, stores: Path, kind: str) -> None:
        beside = stores / "out.zarr.incomplete"
        if kind == "folder":
            (beside / "result").mkdir(parents=True)
            (beside / "result" / "thesis.txt").write_text("mine")
        elif kind == "file":
            beside.write_text("mine")
        else:
            (stores / "empty").mkdir()
            beside.symlink_to("empty")
        message = r"out\.zarr\.incomplete is in the way: dark_jax did not make it; move it"
        assert_refused(stores, stores / "maps.npy", stores / "out.zarr", FileExistsError, message)

    @pytest.mark.parametrize("names", [(), (LOCK,), (MARK,), (LOCK, MARK)])
    def test_what_a_run_leaves_that_has_not_begun(
        self, stores: Path, names: tuple[str, ...]
    ) -> None:
        (stores / "out.zarr.incomplete").mkdir()
        for name in names:
            (stores / "out.zarr.incomplete" / name).touch()
        decode_store(stores / "maps.npy", stores / "out.zarr")
        assert not (stores / "out.zarr.incomplete").exists()

    @pytest.mark.parametrize("suffix", TARGETS)
    @pytest.mark.parametrize("name", ["thesis.txt", "status/notes.txt", "extra.zarr/zarr.json"])
    def test_in_the_old_results(self, stores: Path, suffix: str, name: str) -> None:
        source, target = stores / "maps.npy", stores / f"out{suffix}"
        decode_store(source, target, decoder=OTHER)
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
        before = tree(stores)
        with pytest.raises(FileExistsError, match="is not replaced: dark_jax did not make"):
            decode_store(source, target, overwrite=True)
        assert tree(stores) == before

    def test_in_the_unfinished_results(
        self, stores: Path, full_after: Callable[[int | None], None]
    ) -> None:
        source, target = stores / "maps.npy", stores / "out.zarr"
        full_after(5)
        with pytest.raises(FullError):
            decode_store(source, target)
        full_after(None)
        mine = stores / "out.zarr.incomplete" / "result" / "thesis.txt"
        mine.write_text("mine")
        with pytest.raises(FileExistsError, match=r"did not make .*thesis\.txt; move it"):
            decode_store(source, target, overwrite=True)
        mine.rename(stores / "out.zarr.incomplete" / "thesis.txt")
        decode_store(source, target, overwrite=True)
        assert tree(stores / "out.zarr.incomplete").keys() == {LOCK, MARK, "thesis.txt"}

    @pytest.mark.parametrize("name", ["notes/mine.txt", "spare-mine/mine.txt", "replaced/mine"])
    def test_beside_what_we_keep(
        self, stores: Path, name: str, full_after: Callable[[int | None], None]
    ) -> None:
        source, target = stores / "maps.npy", stores / "out.zarr"
        decode_and_stop(source, target, full_after)
        mine = stores / "out.zarr.incomplete" / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
        message = "dark_jax did not make .*mine"
        assert_refused(stores, source, target, FileExistsError, message)
        mine.rename(stores / "mine.txt")
        if not name.startswith("notes"):
            mine.parent.rmdir()
        decode_store(source, target, resume=True)

    def test_what_comes_to_stand_there_after_a_kill(
        self, stores: Path, full_after: Callable[[int | None], None]
    ) -> None:
        """A foreign folder appears at the target after a run was killed.

        The run died between moving the old results away and presenting the new ones.
        """
        source, target = stores / "maps.npy", stores / "out.zarr"
        decode_store(source, target, decoder=OTHER)
        old = tree(target)
        full_after(9)
        with pytest.raises(FullError):
            decode_store(source, target, overwrite=True)
        full_after(None)
        replaced = stores / "out.zarr.incomplete" / "replaced"
        target.rename(replaced)
        target.mkdir()
        (target / "thesis.txt").write_text("mine")
        for options in WAYS:
            with pytest.raises(FileExistsError):
                decode_store(source, target, **options)
            assert tree(target) == {"thesis.txt": b"mine"}
            assert tree(replaced) == old
        target.rename(stores / "mine")
        with pytest.raises(FileExistsError, match="is unfinished"):
            decode_store(source, target)
        assert tree(target) == old
        decode_store(source, target, resume=True)
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")

    def test_results_that_may_not_be_written(
        self, stores: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Old results that are write-protected raise an error before anything is decoded."""
        source, target = stores / "maps.npy", stores / "out.zarr"
        decode_store(source, target, decoder=OTHER)
        access = os.access
        denied = target / "status"
        monkeypatch.setattr(
            os, "access", lambda path, mode: Path(path) != denied and access(path, mode)
        )
        before = tree(stores)
        with pytest.raises(PermissionError, match=r"status may not be written; allow it, or"):
            decode_store(source, target, overwrite=True)
        assert tree(stores) == before

    @pytest.mark.parametrize("made_by", ["us", "another"])
    def test_what_comes_to_stand_at_the_target(
        self, stores: Path, expected: Keypoints, made_by: str
    ) -> None:
        """A folder that appears at the target during a run is kept, and so are the results."""
        source, target = stores / "maps.npy", stores / "out.zarr"
        decode_store(source, stores / "ours.zarr")

        def meanwhile(done: int, total: int) -> None:
            if done == total:
                shutil.copytree(stores / f"{'ours' if made_by == 'us' else 'array'}.zarr", target)

        with pytest.raises(FileExistsError, match="was not there when this run began, and is not"):
            decode_store(source, target, progress=meanwhile)
        stays = tree(target)
        for message, options in zip(("is unfinished", "was not there"), WAYS, strict=False):
            with pytest.raises(FileExistsError, match=message):
                decode_store(source, target, **options)
        assert tree(target) == stays
        target.rename(stores / "elsewhere.zarr")
        decode_store(source, target, resume=True)
        np.testing.assert_array_equal(group_of(target)["scores"], expected.scores)


def test_two_threads(stores: Path) -> None:
    """Only one thread of a process can write a target. The others are refused at any moment."""
    ends: list[Any] = []
    start = threading.Barrier(4)

    def one() -> None:
        start.wait()
        try:
            decode_store(stores / "maps.npy", stores / "out.zarr")
            ends.append("done")
        except OSError as error:
            ends.append(type(error))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends.count("done") == 1
    assert set(ends) <= {"done", BlockingIOError, FileExistsError}
    decode_store(stores / "maps.npy", stores / "whole.zarr")
    assert tree(stores / "out.zarr") == tree(stores / "whole.zarr")
    assert not (stores / "out.zarr.incomplete").exists()


def test_a_worker_of_a_run_that_has_ended(
    stores: Path, monkeypatch: pytest.MonkeyPatch, expected: Keypoints
) -> None:
    """Workers of a cluster may outlive their run, but cannot write into the next one's results."""
    from dark_jax._stores import decode_store as module

    source, target = stores / "maps.npy", stores / "out.zarr"
    stale: list[Any] = []
    run = module._run

    def stopped(job: Any, *arguments: Any) -> None:
        stale.append(job)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_run", stopped)
        with pytest.raises(KeyboardInterrupt):
            decode_store(source, target, decoder=OTHER)

    def with_the_stale_one(job: Any, reader: Any, *others: Any) -> None:
        with pytest.raises(FileNotFoundError, match="cannot be written"):
            stale[0].do((0, 0), reader)
        run(job, reader, *others)

    monkeypatch.setattr(module, "_run", with_the_stale_one)
    decode_store(source, target, overwrite=True)
    np.testing.assert_array_equal(group_of(target)["status"], expected.status)
    decode = jax.device_get(dark_jax.decode(np.load(source)))
    np.testing.assert_allclose(group_of(target)["coords"], decode.coords, atol=1e-4)
