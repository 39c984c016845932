"""Full disks, interruptions and simultaneous runs do not lose results."""

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dark_jax import Keypoints, decode, decode_fit, decode_store, rules
from tests.stores.cases import OTHER, TARGETS, FullError, tree

pytest.importorskip("zarr")
pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
pytest.importorskip("dask")

KERNEL_7, HRNET, WITH_COVARIANCE = (
    functools.partial(decode, **options)  # pyright: ignore[reportArgumentType]
    for options in ({"kernel_size": 7}, {"rule": rules.HRNET}, {"covariance": True})
)
FIT = functools.partial(decode_fit, sigma=2.0)


class TestNothingIsLost:
    @pytest.mark.parametrize("suffix", TARGETS)
    @pytest.mark.parametrize("count", [1, 2, 7, 14])
    def test_resumed(
        self, stores: Path, suffix: str, count: int, full_after: Callable[[int | None], None]
    ) -> None:
        """Finished blocks are not decoded again.

        The bytes of the results equal those of an uninterrupted run.
        """
        source, target = stores / "array.zarr", stores / f"out{suffix}"
        decode_store(source, stores / f"whole{suffix}")
        whole = tree(stores / f"whole{suffix}")
        full_after(count if suffix == ".zarr" else count // 2)
        with pytest.raises(FullError):
            decode_store(source, target)
        assert not target.exists()
        with pytest.raises(FileExistsError, match="unfinished: go on with resume=True, or begin"):
            decode_store(source, target)
        full_after(None)
        there = tree(stores / f"out{suffix}.incomplete" / "notes")
        kept = sum(3 if n == 5 else 6 for n in range(6) if f"{n:08d}.json" in there)
        assert (kept > 0) == (count > 2)
        told: list[int] = []
        decode_store(source, target, resume=True, progress=lambda done, _: told.append(done))
        assert told[0] == kept
        assert tree(target) == whole
        assert not (stores / f"out{suffix}.incomplete").exists()

    def test_a_torn_block_is_done_again(
        self, stores: Path, full_after: Callable[[int | None], None]
    ) -> None:
        """A file system may leave files without contents when the power fails."""
        full_after(14)
        with pytest.raises(FullError):
            decode_store(stores / "maps.npy", stores / "out.zarr")
        result = stores / "out.zarr.incomplete" / "result"
        (result / "coords" / "c.0.0.0").write_bytes(b"")
        (result / "scores" / "c.1.0").unlink()
        (result.with_name("notes") / "00000002.json").write_bytes(b"")
        full_after(None)
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        decode_store(stores / "maps.npy", stores / "whole.zarr")
        assert tree(stores / "out.zarr") == tree(stores / "whole.zarr")

    def test_resume_begins_and_ends(self, stores: Path) -> None:
        """A job script can always pass ``resume=True``, also to begin, and when all is done."""
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        before = {p: p.stat().st_mtime_ns for p in (stores / "out.zarr").rglob("*")}
        decode_store(stores / "maps.npy", stores / "out.zarr", resume=True)
        assert before == {p: p.stat().st_mtime_ns for p in (stores / "out.zarr").rglob("*")}

    def test_complete_and_read_only(self, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Resuming complete results writes nothing, and needs no permission to write."""
        target = stores / "out.zarr"
        decode_store(stores / "maps.npy", target)
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != target)
        before = tree(target)
        decode_store(stores / "maps.npy", target, resume=True)
        assert tree(target) == before

    @pytest.mark.parametrize("resumed", [True, False])
    def test_the_old_stays_until_the_new_is_complete(
        self, stores: Path, resumed: bool, full_after: Callable[[int | None], None]
    ) -> None:
        source, target = stores / "maps.npy", stores / "out.zarr"
        decode_store(source, target, decoder=OTHER)
        old = tree(target)
        with pytest.raises(FileExistsError, match="exists: replace it with overwrite=True, or ch"):
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
        ("decoder", "message"),
        [
            (KERNEL_7, "another kernel_size: it was 5, now it is 7"),
            (HRNET, "another rule.name: it was 'GUARDED', now it is 'HRNET'"),
            (FIT, "another decoder: it was 'decode', now it is 'decode_fit'"),
            (WITH_COVARIANCE, "another covariance: it was False, now it is True"),
        ],
    )
    def test_resumed_with_something_else(
        self,
        stores: Path,
        decoder: Callable[..., Keypoints],
        message: str,
        begun: bool,
        full_after: Callable[[int | None], None],
    ) -> None:
        """Results, unfinished or complete, need the same parameters and source to resume."""
        source, target = stores / "maps.npy", stores / "out.zarr"
        if begun:
            full_after(3)
            with pytest.raises(FullError):
                decode_store(source, target)
        else:
            decode_store(source, target)
        before = tree(stores)
        with pytest.raises(ValueError, match=message):
            decode_store(source, target, resume=True, decoder=decoder)
        with pytest.raises(ValueError, match="another source"):
            decode_store(stores / "array.zarr", target, resume=True)
        assert tree(stores) == before

    def test_resumed_in_another_precision(
        self, stores: Path, maps: np.ndarray, full_after: Callable[[int | None], None]
    ) -> None:
        np.save(stores / "double.npy", maps.astype(np.float64))
        full_after(3)
        with pytest.raises(FullError), jax.enable_x64(True):
            decode_store(stores / "double.npy", stores / "out.zarr", decoder=HRNET)
        with pytest.raises(ValueError, match="another coords: it was 'float64', now it is 'flo"):
            decode_store(stores / "double.npy", stores / "out.zarr", decoder=HRNET, resume=True)

    def test_resumed_from_another_folder(
        self,
        stores: Path,
        monkeypatch: pytest.MonkeyPatch,
        full_after: Callable[[int | None], None],
    ) -> None:
        """A relative source is resolved in the working directory, to the same store or another."""
        other = stores / "other"
        other.mkdir()
        shutil.copy(stores / "maps.npy", other)
        target = stores / "out.zarr"
        monkeypatch.chdir(stores)
        full_after(3)
        with pytest.raises(FullError):
            decode_store("maps.npy", target)
        full_after(None)
        monkeypatch.chdir(other)
        with pytest.raises(ValueError, match="another source"):
            decode_store("maps.npy", target, resume=True)
        decode_store("../maps.npy", target, resume=True)
        assert target.exists()

    def test_two_runs(self, stores: Path) -> None:
        """The second run is refused with any options, and does not affect the first."""
        source, target = stores / "maps.npy", stores / "out.zarr"
        refused = []

        def meanwhile(done: int, total: int) -> None:
            asked: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]
            for options in asked:
                with pytest.raises(BlockingIOError, match="written by another run: wait"):
                    decode_store(source, target, **options)
                refused.append(done)

        decode_store(source, target, progress=meanwhile)
        assert len(refused) == 3 * 7
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")

    def test_interrupted(self, stores: Path) -> None:
        """After Ctrl-C, no block is running when the error arrives, and the run can be resumed."""
        source, target = stores / "maps.npy", stores / "out.zarr"

        def stop(done: int, total: int) -> None:
            if done > 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            decode_store(source, target, progress=stop)
        assert not target.exists()
        (spare,) = (stores / "out.zarr.incomplete").glob("spare-*")
        assert not [*spare.iterdir()]
        decode_store(source, target, resume=True)
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")
