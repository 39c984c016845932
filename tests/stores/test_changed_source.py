"""All results are decoded from one state of the source, also those of a resumed run."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dark_jax import Keypoints, decode_store
from tests.stores.cases import FullError, decode_and_stop, group_of, tree

zarr = pytest.importorskip("zarr")
pytest.importorskip("h5py")
pytest.importorskip("dask")


def accept_and_stop(source: Path, target: Path, full_after: Callable[[int | None], None]) -> None:
    """Accept the changed source in a run that then stops. Later runs need not accept it again."""
    full_after(2)
    with pytest.raises(FullError):
        decode_store(source, target, resume=True, accept_changed_source=True)
    full_after(None)


class TestChangedSource:
    """A run resumes only if its source is unchanged. Otherwise the results would be a mixture."""

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
        with pytest.raises(ValueError, match=r"has changed since .* size or modification time"):
            decode_store(source, target, resume=True)
        assert tree(stores) == before
        accept_and_stop(source, target, full_after)
        decode_store(source, target, resume=True)  # this state was accepted
        assert tree(target) == tree(stores / "whole.zarr")

    @pytest.mark.parametrize("name", ["array.zarr", "group.zarr"])
    def test_a_chunk_written_anew(
        self, stores: Path, name: str, full_after: Callable[[int | None], None]
    ) -> None:
        """Writing a chunk of a finished block leaves the metadata of a Zarr array unchanged."""
        source, target = stores / name, stores / "out.zarr"
        decode_and_stop(source, target, full_after)
        node = zarr.open(source, mode="r+")
        node = node["heatmaps"] if name == "group.zarr" else node
        values = node[10:11]
        time.sleep(0.02)
        node[10:11] = values  # not decoded yet, so the new chunk is used
        decode_and_stop(source, target, full_after)
        node[0:1, 1:2] = node[0:1, 1:2]
        with pytest.raises(ValueError, match=r"has changed since .* a chunk of the block \(0, 0\)"):
            decode_store(source, target, resume=True)
        accept_and_stop(source, target, full_after)
        decode_store(source, target, resume=True)
        decode_store(source, stores / "whole.zarr")
        assert tree(target) == tree(stores / "whole.zarr")

    @pytest.mark.parametrize("how", ["gone", "copied"])
    def test_a_chunk_that_looks_old(
        self, stores: Path, how: str, full_after: Callable[[int | None], None]
    ) -> None:
        """The chunk is deleted, as Zarr does with zeros, or replaced by a copy of an old time."""
        source, target = stores / "array.zarr", stores / "out.zarr"
        chunk, other = (source / "c" / "0" / joint / "0" / "0" for joint in "01")
        os.utime(other, ns=(0, 10**18))
        decode_and_stop(source, target, full_after)
        chunk.unlink() if how == "gone" else shutil.copy2(other, chunk)
        with pytest.raises(ValueError, match=r"has changed since .* a chunk of the block \(0, 0\)"):
            decode_store(source, target, resume=True)

    @pytest.mark.parametrize("kind", ["virtual", "external"])
    def test_the_files_of_hdf5(
        self, stores: Path, maps: np.ndarray, kind: str, full_after: Callable[[int | None], None]
    ) -> None:
        """The values may lie in other files than the one that is opened."""
        import h5py

        source, target = stores / "view.h5", stores / "out.zarr"
        with h5py.File(source, "w") as file:
            if kind == "virtual":
                held = stores / "maps.h5"
                layout = h5py.VirtualLayout(maps.shape, "f4")
                layout[...] = h5py.VirtualSource("maps.h5", "heatmaps", maps.shape)
                file.create_virtual_dataset("heatmaps", layout)
            else:
                held = stores / "maps.raw"
                held.write_bytes(maps.tobytes())
                external = [(str(held), 0, h5py.h5f.UNLIMITED)]
                file.create_dataset("heatmaps", maps.shape, "f4", external=external)
        decode_and_stop(source, target, full_after)
        os.utime(held, ns=(0, 10**18))
        with pytest.raises(ValueError, match=rf"size or modification time of .*{held.name}; begin"):
            decode_store(source, target, resume=True)
        decode_store(source, target, resume=True, accept_changed_source=True)
        decode_store(source, stores / "all.zarr", refuse_missing_chunks=True)
        decode_store(stores / "maps.npy", stores / "whole.zarr")
        found, whole = (group_of(stores / name)["coords"] for name in ("out.zarr", "whole.zarr"))
        np.testing.assert_array_equal(found, whole)

    @pytest.mark.parametrize("name", ["maps.npy", "array.zarr"])
    def test_while_it_is_decoded(self, stores: Path, name: str) -> None:
        """If the source changes during the run, the results are not presented."""
        source, target = stores / name, stores / "out.zarr"

        def meanwhile(done: int, total: int) -> None:
            if done == 6:
                held = source / "c" / "0" / "0" / "0" / "0" if source.is_dir() else source
                os.utime(held, ns=(0, 10**18))

        with pytest.raises(ValueError, match="has changed since"):
            decode_store(source, target, progress=meanwhile)
        assert not target.exists()
        decode_store(source, target, resume=True, accept_changed_source=True)
        assert target.exists()

    def test_another_folder_meanwhile(
        self, stores: Path, maps: np.ndarray, monkeypatch: pytest.MonkeyPatch, expected: Keypoints
    ) -> None:
        """A relative source stays the same if the working directory changes during the run."""
        (stores / "other").mkdir()
        np.save(stores / "other" / "maps.npy", np.zeros_like(maps))
        monkeypatch.chdir(stores)
        decode_store("maps.npy", "out.zarr", progress=lambda *_: os.chdir(stores / "other"))
        np.testing.assert_array_equal(group_of(stores / "out.zarr")["scores"], expected.scores)

    def test_accepted_only_where_it_is_resumed(self, stores: Path) -> None:
        with pytest.raises(ValueError, match="give resume=True too"):
            decode_store(stores / "maps.npy", stores / "o.zarr", accept_changed_source=True)

    def test_of_another_key(self, stores: Path, full_after: Callable[[int | None], None]) -> None:
        """The default ``key`` does not resume a run of another key."""
        source, target = stores / "group.zarr", stores / "out.zarr"
        full_after(2)
        with pytest.raises(FullError):
            decode_store(source, target, key="other")
        full_after(None)
        with pytest.raises(ValueError, match="another key: it was 'other', now it is 'heatmaps'"):
            decode_store(source, target, resume=True)
