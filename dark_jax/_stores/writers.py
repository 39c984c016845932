"""Keypoints of a store, written block by block: a Zarr group or a parquet dataset."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dark_jax._core import optional
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._io import atomic, tables
from dark_jax._stores.blocks import Blocks

# What the axes of a long table are, by their number; as the command line reads arrays.
TABLE_AXES = ((), ("joint",), ("image", "joint"), ("image", "instance", "joint"))


@dataclass(frozen=True)
class Writer(ABC):
    """Where blocks go.

    A block is there, whole, or it is not: every file is written aside and then renamed, and the
    last file of a block stands for the block.

    Attributes:
        folder: of the results.
        spare: a folder of the same file system, for what is not written to its end.
        blocks: how the results are cut.
        dtype: of coordinates and scores.
        covariance: whether there is one.
        about: the parameters and the version that make the results; kept with them.
    """

    folder: Path
    spare: Path
    blocks: Blocks
    dtype: np.dtype
    covariance: bool
    about: Mapping[str, Any]

    @abstractmethod
    def create(self) -> None:
        """Everything but the blocks, into an empty folder."""

    @abstractmethod
    def write(self, index: tuple[int, ...], keypoints: Keypoints) -> None:
        """One block: NumPy arrays of the full size of a block."""

    @abstractmethod
    def _last(self, index: tuple[int, ...]) -> str:
        """The file of a block that is written last."""

    def has(self, index: tuple[int, ...]) -> bool:
        """Whether a block is there."""
        last = self.folder / self._last(index)
        # A file without contents is what a file system may leave when the power goes.
        return last.exists() and last.stat().st_size > 0

    def _put(self, name: str, contents: bytes) -> None:
        atomic.write_aside(self.folder / name, contents, spare=self.spare)


class ZarrWriter(Writer):
    """A group of ``coords``, ``scores``, ``status`` and, if there is one, ``covariance``.

    A chunk is a block, uncompressed: the bytes of one array.
    """

    def create(self) -> None:
        """The group and its arrays, without chunks."""
        zarr: Any = optional.load("zarr", extra="store")
        attributes = {**self.about, "status": {reason.name: reason.value for reason in Status}}
        group = zarr.create_group(self.folder, zarr_format=3, attributes=attributes)
        for name, (dtype, fill, beyond) in self._arrays().items():
            group.create_array(
                name,
                shape=(*self.blocks.others, *beyond),
                chunks=(*self.blocks.size, *beyond),
                dtype=dtype,
                fill_value=fill,
                filters=None,
                compressors=None,
                chunk_key_encoding={"name": "default", "separator": "."},
            )

    def _arrays(self) -> dict[str, tuple[np.dtype, float, tuple[int, ...]]]:
        """Name to type, fill value and further axes; the last one is written last."""
        dim = len(self.blocks.axes)
        covariance = {"covariance": (self.dtype, math.inf, (dim, dim))}
        return {
            "coords": (self.dtype, math.nan, (dim,)),
            "scores": (self.dtype, math.nan, ()),
            **(covariance if self.covariance else {}),
            "status": (np.dtype(np.int8), Status.NOT_FINITE.value, ()),
        }

    def write(self, index: tuple[int, ...], keypoints: Keypoints) -> None:
        """A chunk of each array."""
        for name, (dtype, _, beyond) in self._arrays().items():
            values = np.asarray(getattr(keypoints, name))
            contents = values.astype(dtype.newbyteorder("<")).tobytes()
            self._put(self._chunk(name, index, len(beyond)), contents)

    def _last(self, index: tuple[int, ...]) -> str:
        return self._chunk("status", index, 0)

    @staticmethod
    def _chunk(name: str, index: tuple[int, ...], beyond: int) -> str:
        return f"{name}/" + ".".join(["c", *map(str, index), *["0"] * beyond])


class ParquetWriter(Writer):
    """Long tables, as :func:`dark_jax.save` writes them, a part a block."""

    def create(self) -> None:
        """The folder; what made the results is written into every part of it."""
        self.folder.mkdir()
        self._put("_about.json", atomic.json_bytes(self.about))

    def write(self, index: tuple[int, ...], keypoints: Keypoints) -> None:
        """One part."""
        part = self.blocks.part(index)
        there = tuple(slice(0, along.stop - along.start) for along in part)
        keypoints = jax.tree.map(lambda leaf: leaf[there], keypoints)
        table = tables.make_table(keypoints, axes=TABLE_AXES[len(part)])
        table = table._replace(first=tuple(along.start for along in part))
        name, shape = self._last(index), table.scores.shape
        self._put(name, tables.file_contents(table, Path(name), about=self.about, shape=shape))

    def _last(self, index: tuple[int, ...]) -> str:
        return f"part-{self.blocks.number(index):08d}.parquet"


KINDS = {".zarr": ZarrWriter, ".parquet": ParquetWriter}


def read_about(path: Path) -> dict[str, Any] | None:
    """What made the results at ``path``, if :class:`Writer` wrote them."""
    found = None
    for name in ("zarr.json", "_about.json"):
        try:
            contents = json.loads((path / name).read_text())
            found = contents.get("attributes", contents)
        except (OSError, ValueError, AttributeError):
            continue
    return found if isinstance(found, dict) and "dark_jax" in found else None
