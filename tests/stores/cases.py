"""Small stores for the tests of reading and writing them, and their contents."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dark_jax import Keypoints, decode, decode_store, rules
from tests.support import tolerances

SHAPE = (11, 3, 24, 20)
CHUNKS = (2, 1, 24, 20)
BLOCK = 2  # images per block, see conftest.py
# Parameters that differ from the defaults. All tests that need such share this program.
OTHER = functools.partial(decode, rule=rules.VITPOSE, kernel_size=5)
TARGETS = (".zarr", ".parquet")


class FullError(OSError):
    pass


def write_zarr(path: Path, values: np.ndarray, chunks: tuple[int, ...] = CHUNKS) -> None:
    import zarr

    zarr.create_array(path, data=values, chunks=chunks)


def write_stores(folder: Path, maps: np.ndarray) -> None:
    """Write the same maps to every kind of store, with other arrays beside them."""
    import h5py
    import zarr

    np.save(folder / "maps.npy", maps)
    write_zarr(folder / "array.zarr", maps)
    group = zarr.create_group(folder / "group.zarr", zarr_format=2)
    group.create_array("heatmaps", data=maps, chunks=CHUNKS)
    group.create_array("other", data=maps[2:4])
    with h5py.File(folder / "maps.h5", "w") as file:
        file.create_dataset("a/b", data=maps[::-1])
        file.create_dataset("heatmaps", data=maps, chunks=CHUNKS, compression="gzip")


def damaged_chunk(stores: Path, name: str) -> tuple[Path, tuple[int, ...], tuple[int, int], str]:
    """Damage a chunk; return its file, its index, the range of its images and the array's path."""
    import h5py

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
    raise AssertionError(name)


def tree(folder: Path) -> dict[str, bytes]:
    """The contents of every file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def group_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a Zarr group by their names."""
    import zarr

    return {
        name: np.asarray(array[...]) for name, array in zarr.open_group(path, mode="r").arrays()
    }


def assert_same(found: dict[str, np.ndarray], expected: Keypoints) -> None:
    """Assert that ``found`` equals ``expected``, but for the last digit of float32.

    The expected keypoints may come from one program that decodes all maps at once.
    """
    np.testing.assert_array_equal(found["status"], expected.status)
    np.testing.assert_array_equal(found["scores"], expected.scores)
    np.testing.assert_allclose(
        found["coords"], expected.coords, rtol=tolerances.COMPILED, atol=tolerances.COMPILED
    )


def decode_and_stop(source: Path, target: Path, full_after: Callable[[int | None], None]) -> None:
    """Decode two blocks, and stop because the disk is full."""
    full_after(9)
    with pytest.raises(FullError):
        decode_store(source, target, resume=True)
    full_after(None)
