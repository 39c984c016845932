"""Read heatmaps block by block from Zarr, HDF5 and .npy stores that are larger than memory."""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dark_jax._core import optional
from dark_jax._io import heatmap_files
from dark_jax._io.heatmap_files import Member
from dark_jax._stores.blocks import Blocks, Region

# The alignment of arrays that are read into, in bytes.
ALIGNMENT = 64
SOURCES = "a Zarr directory, an HDF5 file or a .npy file"
# The files that describe an array or a group, in versions 3 and 2 of Zarr.
ZARR = ("zarr.json", ".zarray", ".zgroup")
NOT_STORED = "it is not stored, and would read as the fill value"


@dataclass(frozen=True)
class Reader:
    """An open array.

    Attributes:
        where: the path of the store, followed by the path of the array inside it.
        key: the path of the array inside the store; None if the store is a single array.
        state: returns the present state, as JSON: size and modification time (ns) of each file
            that holds or describes the array.
        shape: the shape of the array.
        dtype: the dtype of the array.
        chunks: the shape of a chunk, which is stored, and can be damaged, by itself; None if the
            array is not chunked.
        read: returns the values of a region.
        stored: returns size and modification time (ns) of the file of a chunk; [0, 0] if the chunk
            has no file of its own; None if it is not stored at all and reads as the fill value.
        separate: whether chunks have files of their own.
    """

    where: str
    key: str | None
    state: Callable[[], dict[str, list[int]]]
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None
    read: Callable[[Region], np.ndarray]
    stored: Callable[[tuple[int, ...]], list[int] | None]
    separate: bool = False


class Unread(NamedTuple):
    """A chunk that could not be read.

    Attributes:
        path: the path of the array.
        chunk: its index in the grid of chunks; the index of the block if there are no chunks.
        reason: why the chunk could not be read.
    """

    path: str
    chunk: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: chunk {self.chunk}: {self.reason}"


def is_store(path: Path) -> bool:
    """Return whether a path looks like one of ``SOURCES``.

    Raises:
        OSError: the path does not exist, or it may not be read.
        ImportError: the path may be an HDF5 file, and h5py is not installed.
    """
    if path.is_dir():
        return any((path / name).is_file() for name in ZARR)
    with path.open("rb"):  # raises if the file is missing; is_hdf5 would return False
        pass
    if path.suffix in (".npy", ".npz"):
        return path.suffix == ".npy"
    return optional.load("h5py", extra="store").is_hdf5(path)


@contextmanager
def opened(path: Path, *, key: str | None = None, dim: int = 2) -> Iterator[Reader]:
    """Open the array of a Zarr directory, an HDF5 file or a ``.npy`` file.

    Args:
        path: the path of the store.
        key: the name or path of an array in the store.
        dim: the number of axes of a map; without ``key``, an array with fewer is not chosen.

    Raises:
        OSError: the store cannot be opened.
        ValueError: ``path`` is not a store, or ``key`` does not choose one of its arrays.
        ImportError: the library that reads the store is not installed.
    """
    if key is not None:
        key = "/".join(part for part in key.split("/") if part not in ("", "."))
    if not is_store(path):
        raise ValueError(f"source must be {SOURCES}, got {path}")
    if path.is_dir():
        yield _zarr(path, key, dim)
    elif path.suffix == ".npy":
        yield _npy(path, key)
    else:
        h5py: Any = optional.load("h5py", extra="store")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error
        with file:
            yield _hdf5(path, file, key, dim)


def _zarr(path: Path, key: str | None, dim: int) -> Reader:
    zarr: Any = optional.load("zarr", extra="store")
    try:
        node = zarr.open(path, mode="r")
    except Exception as error:  # metadata that is missing or broken in any way
        raise ValueError(f"{path}: not a readable Zarr store ({error})") from error
    where = str(path)
    if isinstance(node, zarr.Group):
        key, node = _zarr_member(path, node, key, dim)
        where = f"{path}/{key}"
    elif key is not None:
        raise ValueError(heatmap_files.ONE_ARRAY.format(path, key))
    buffers: Any = optional.load("zarr.buffer", extra="store").cpu.NDBuffer

    def read(region: Region) -> np.ndarray:
        values = _empty(region, node.dtype)
        node.get_basic_selection(region, out=buffers.from_numpy_array(values))
        return values

    folder = path / node.path if node.path else path
    # A shard is one file that holds several chunks.
    shards, chunks = getattr(node, "shards", None) or node.chunks, node.chunks

    def stored(chunk: tuple[int, ...]) -> list[int] | None:
        at = tuple(n * one // all for n, one, all in zip(chunk, chunks, shards, strict=True))
        try:
            return _state(folder / node.metadata.encode_chunk_key(at))
        except FileNotFoundError:
            return None

    # The first of these files that exists: an array may be described only by its group.
    names = (folder / "zarr.json", folder / ".zarray", path / "zarr.json", path / ".zmetadata")
    described = [name for name in names if name.is_file()][:1]
    return Reader(
        where,
        key,
        lambda: _states(described),
        node.shape,
        node.dtype,
        chunks,
        read,
        stored,
        separate=True,
    )


def _states(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return the state of each file that exists, by its path with links resolved, as JSON."""
    return {str(path.resolve()): _state(path) for path in paths if path.exists()}


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _hdf5(path: Path, file: Any, key: str | None, dim: int) -> Reader:
    key, node = _hdf5_member(path, file, key, dim)

    def read(region: Region) -> np.ndarray:
        values = _empty(region, node.dtype)
        node.read_direct(values, region)
        return values

    # The files that hold the values of a virtual or external dataset; "." is this file.
    others = [each.file_name for each in node.virtual_sources()] if node.is_virtual else []
    others += [name for name, *_ in node.external or ()]
    files = [path, *(path.parent / name for name in sorted({*others} - {"."}))]

    def stored(chunk: tuple[int, ...]) -> list[int] | None:
        if node.chunks is None:
            return [0, 0] if len(files) > 1 or node.id.get_storage_size() else None
        at = tuple(n * side for n, side in zip(chunk, node.chunks, strict=True))
        return None if node.id.get_chunk_info_by_coord(at).byte_offset is None else [0, 0]

    where, state = f"{path}/{key}", lambda: _states(files)
    return Reader(where, key, state, node.shape, node.dtype, node.chunks, read, stored)


def _empty(region: Region, dtype: np.dtype) -> np.ndarray:
    """Return an empty array for a region, aligned so that JAX on a CPU takes it uncopied."""
    shape = [part.stop - part.start for part in region]
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def _zarr_member(path: Path, group: Any, key: str | None, dim: int) -> tuple[str, Any]:
    """Return the array of a group that ``key`` chooses, by name or by path."""
    zarr: Any = optional.load("zarr", extra="store")

    def get(name: str) -> Any:
        try:
            node = group[name]
        except KeyError:
            return None
        except Exception as error:  # metadata broken in any way, or a name that is not a path
            raise ValueError(f"{path}: {name!r} in it cannot be read ({error})") from error
        return node if isinstance(node, zarr.Array) else None

    seen = {path.resolve()}

    def members(folder: Path = path, above: str = "") -> Iterator[Member]:
        if group.metadata.consolidated_metadata is not None:
            for name, node in group.members(max_depth=None):
                if isinstance(node, zarr.Array):
                    yield Member(name, node.shape, node.dtype)
            return
        # List the folder: Zarr's own list fails as a whole if one member is broken.
        for entry in sorted(folder.iterdir()):
            if any((entry / name).is_file() for name in ZARR) and entry.resolve() not in seen:
                seen.add(entry.resolve())
                with suppress(Exception):  # an error only if the array is asked for by name
                    node = group[above + entry.name]
                    if isinstance(node, zarr.Array):
                        yield Member(node.path, node.shape, node.dtype)
                    else:
                        yield from members(entry, f"{above}{entry.name}/")

    return heatmap_files.choose_array(path, key, get=get, members=members, dim=dim)


def _hdf5_member(path: Path, file: Any, key: str | None, dim: int) -> tuple[str, Any]:
    """Return the dataset of an HDF5 file that ``key`` chooses; links may be broken."""
    h5py: Any = optional.load("h5py", extra="store")

    def get(name: str) -> Any:
        link = None
        try:
            link = file.get(name, getlink=True) if name else None
            node: Any = file[name] if link is not None else None
            dtype = node.dtype if isinstance(node, h5py.Dataset) else None
        except Exception as error:  # a link to nothing, a damaged header, a type NumPy lacks
            what = f"{link!r}: {error.args[0]}" if error.args else repr(link)
            raise ValueError(f"{path}: {name!r} in it cannot be read ({what})") from error
        if dtype is None:
            return None
        if node.shape is None:
            raise ValueError(f"{path}: {name!r} in it is null, without values")
        return node

    seen = {file["/"]}

    def members(group: Any = file, above: str = "") -> Iterator[Member]:
        """Yield each array under one name only, because links can form cycles."""
        for name in group:
            with suppress(Exception):  # an error only if the array is asked for by name
                node = group[name]
                if isinstance(node, h5py.Dataset | h5py.Group) and node not in seen:
                    seen.add(node)
                    if isinstance(node, h5py.Dataset):
                        yield Member(above + name, node.shape, node.dtype)
                    else:
                        yield from members(node, f"{above}{name}/")

    return heatmap_files.choose_array(path, key, get=get, members=members, dim=dim)


def _npy(path: Path, key: str | None) -> Reader:
    """Map one region at a time: pages of a mapping kept open count as memory of the process."""
    if key is not None:
        raise ValueError(heatmap_files.ONE_ARRAY.format(path, key))
    with path.open("rb") as stream:
        try:
            shape, fortran, dtype = heatmap_files.read_header(stream)
        except ValueError as error:
            raise ValueError(f"{path}: not a readable .npy file ({error})") from error
        start = stream.tell()
    claimed, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
    if not dtype.hasobject and (min(shape, default=0) < 0 or there < claimed):
        raise ValueError(
            f"{path}: has {there} bytes of values, but shape {shape} and {dtype} of its header "
            f"need {claimed}: it was cut off, or is still being written"
        )
    if fortran and len(shape) > 1:
        raise ValueError(
            f"{path} is in Fortran order, which separates the pixels of a map; save it in C order"
        )
    strides = [math.prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))]

    def read(region: Region) -> np.ndarray:
        single = itertools.takewhile(lambda part: part.stop - part.start == 1, region[:-1])
        whole = len([*single])  # the first axis of which more than one entry is read
        offset = sum(
            part.start * step for part, step in zip(region[: whole + 1], strides, strict=False)
        )
        length = region[whole].stop - region[whole].start
        mapped = np.memmap(
            path,
            dtype,
            mode="r",
            offset=start + offset,
            shape=(*(1,) * whole, length, *shape[whole + 1 :]),
        )
        return mapped[(slice(None),) * (whole + 1) + region[whole + 1 :]]

    return Reader(
        str(path), None, lambda: _states([path]), shape, dtype, None, read, lambda chunk: [0, 0]
    )


def read_block(
    reader: Reader, blocks: Blocks, index: tuple[int, ...], *, refuse_missing_chunks: bool = False
) -> tuple[np.ndarray, np.ndarray | None, list[Unread]]:
    """Return the maps of a block, which of them lack a chunk (None if none does), and the chunks.

    If the block cannot be read as a whole, it is read chunk by chunk. Missing values are zero.
    """
    region = blocks.region(index)

    def refused(chunk: tuple[int, ...]) -> bool:
        return refuse_missing_chunks and reader.stored(chunk) is None

    reason = NOT_STORED
    if not (refuse_missing_chunks and any(map(refused, chunks_of(reader, region)))):
        try:
            return reader.read(region), None, []
        except Exception as error:  # from a file system, a codec or a checksum
            reason = _reason(error)
    maps = np.zeros([part.stop - part.start for part in region], reader.dtype)
    lost = np.zeros(maps.shape, bool)
    if reader.chunks is None:
        lost[...] = True
        return maps, np.asarray(lost.any(blocks.axes)), [Unread(reader.where, index, reason)]
    unread = []
    for chunk in chunks_of(reader, region):
        part = tuple(
            slice(max(at * size, block.start), min((at + 1) * size, block.stop))
            for at, size, block in zip(chunk, reader.chunks, region, strict=True)
        )
        here = tuple(
            slice(mine.start - block.start, mine.stop - block.start)
            for mine, block in zip(part, region, strict=True)
        )
        try:
            reason = NOT_STORED if refused(chunk) else None
            if reason is None:
                maps[here] = reader.read(part)
        except Exception as error:
            reason = _reason(error)
        if reason is not None:
            unread.append(Unread(reader.where, chunk, reason))
            lost[here] = True
    return maps, np.asarray(lost.any(blocks.axes)), unread


def fingerprint(reader: Reader, region: Region) -> str:
    """Return a hash of the state of each chunk file of a region; "" if chunks have no files."""
    if not reader.separate:
        return ""
    files = [reader.stored(chunk) for chunk in chunks_of(reader, region)]
    return hashlib.blake2b(repr(files).encode(), digest_size=16).hexdigest()


def chunks_of(reader: Reader, region: Region) -> Iterator[tuple[int, ...]]:
    """Return the chunks that a region touches; an array without chunks counts as one chunk."""
    chunks = reader.chunks or reader.shape
    return itertools.product(
        *(
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(region, chunks, strict=True)
        )
    )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
