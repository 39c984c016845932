"""Nothing is deleted or overwritten that dark_jax did not make, and no source is mistaken."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, decode_store
from dark_jax._stores.checkpoint import LOCK, NOTE
from tests.stores.cases import OTHER, TARGETS, FullError, group_of, tree, write_zarr

zarr = pytest.importorskip("zarr")
pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
pytest.importorskip("dask")

WAYS: tuple[dict[str, Any], ...] = ({}, {"resume": True}, {"overwrite": True})


def assert_refused(stores: Path, source: Path, target: Path, error: type, message: str) -> None:
    """However it is asked for, and nothing is touched."""
    before = tree(stores)
    for options in WAYS:
        with pytest.raises(error, match=message):
            decode_store(source, target, **options)
        assert tree(stores) == before


class TestSourceAndTarget:
    """One must not be the other, or lie in it, by whatever name."""

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

    def test_a_link_is_followed(self, stores: Path) -> None:
        """What is written is what the link points to; the link stays."""
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

    @pytest.mark.parametrize("names", [(), (LOCK,), (NOTE,), (LOCK, NOTE)])
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
        decode_store(source, target, **OTHER)
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
        assert tree(stores / "out.zarr.incomplete").keys() == {LOCK, NOTE, "thesis.txt"}

    @pytest.mark.parametrize("made_by", ["us", "another"])
    def test_what_comes_to_stand_at_the_target(
        self, stores: Path, expected: Keypoints, made_by: str
    ) -> None:
        """While a run that began without it decodes: it stays, and so do the results."""
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


class TestChangedSource:
    """What is resumed is still what was begun; else the results would be a mixture."""

    @pytest.mark.parametrize("name", ["maps.npy", "maps.h5", "array.zarr", "group.zarr"])
    def test_described_anew(
        self, stores: Path, name: str, full_after: Callable[[int | None], None]
    ) -> None:
        source, target = stores / name, stores / "out.zarr"
        decode_store(source, stores / "whole.zarr")
        decode_and_stop(source, target, full_after)
        held = source
        if source.is_dir():
            held /= "heatmaps/.zarray" if name == "group.zarr" else "zarr.json"
        os.utime(held, ns=(0, held.stat().st_mtime_ns + 1))
        before = tree(stores)
        with pytest.raises(ValueError, match=r"has changed since .* its modification time is an"):
            decode_store(source, target, resume=True)
        assert tree(stores) == before
        accept_and_stop(source, target, full_after)
        decode_store(source, target, resume=True)  # is the one that was accepted
        assert tree(target) == tree(stores / "whole.zarr")

    @pytest.mark.parametrize("name", ["array.zarr", "group.zarr"])
    def test_a_chunk_written_anew(
        self, stores: Path, name: str, full_after: Callable[[int | None], None]
    ) -> None:
        """Of a block that is done; a Zarr array's description stays when its values change."""
        source, target = stores / name, stores / "out.zarr"
        decode_and_stop(source, target, full_after)
        node = zarr.open(source, mode="r+")
        node = node["heatmaps"] if name == "group.zarr" else node
        values = node[10:11]
        time.sleep(0.02)
        node[10:11] = values  # not done yet: decoded as it is now
        decode_and_stop(source, target, full_after)
        node[0:1, 1:2] = node[0:1, 1:2]
        with pytest.raises(ValueError, match=r"chunk \(0, 1, 0, 0\) was written after it was dec"):
            decode_store(source, target, resume=True)
        accept_and_stop(source, target, full_after)
        decode_store(source, target, resume=True)
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")

    def test_accepted_only_where_it_is_resumed(self, stores: Path) -> None:
        with pytest.raises(ValueError, match="it needs resume=True"):
            decode_store(stores / "maps.npy", stores / "o.zarr", accept_changed_source=True)

    def test_of_another_key(self, stores: Path, full_after: Callable[[int | None], None]) -> None:
        """The default is a choice too."""
        source, target = stores / "group.zarr", stores / "out.zarr"
        full_after(2)
        with pytest.raises(FullError):
            decode_store(source, target, key="other")
        full_after(None)
        with pytest.raises(ValueError, match="another key: it was 'other', now it is 'heatmaps'"):
            decode_store(source, target, resume=True)


def decode_and_stop(source: Path, target: Path, full_after: Callable[[int | None], None]) -> None:
    """Two blocks."""
    full_after(7)
    with pytest.raises(FullError):
        decode_store(source, target, resume=True)
    full_after(None)


def accept_and_stop(source: Path, target: Path, full_after: Callable[[int | None], None]) -> None:
    """Told so once, a run knows it ever after."""
    full_after(2)
    with pytest.raises(FullError):
        decode_store(source, target, resume=True, accept_changed_source=True)
    full_after(None)


def test_two_threads(stores: Path) -> None:
    """Of one process: one run writes, the others are refused, at whatever moment."""
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
    """A cluster's workers may outlive the run: they cannot write into the results of the next."""
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
            decode_store(source, target, **OTHER)

    def with_the_stale_one(job: Any, reader: Any, *others: Any) -> None:
        with pytest.raises(FileNotFoundError, match="cannot be written"):
            stale[0].do((0, 0), reader)
        run(job, reader, *others)

    monkeypatch.setattr(module, "_run", with_the_stale_one)
    decode_store(source, target, overwrite=True)
    np.testing.assert_array_equal(group_of(target)["status"], expected.status)
    decode = jax.device_get(dark_jax.decode(np.load(source)))
    np.testing.assert_allclose(group_of(target)["coords"], decode.coords, atol=1e-4)
