"""Convert keypoints of a store to the files of a Zarr group or of a parquet dataset."""

import itertools
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dark_jax._core import optional
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._io import plain_json, tables
from dark_jax._stores.blocks import Blocks

PART = "part-{:08d}.parquet"


@dataclass(frozen=True)
class Writer(ABC):
    """The names and contents of the files of a block, which a checkpoint writes to the disk.

    Attributes:
        blocks: the blocks that the results are cut into.
        dtype: the dtype of coordinates and scores.
        covariance: whether the results have a covariance.
        about: the parameters and the version that make the results; kept with them.
        slots: the number of keypoints in a map, as one more axis of the results; empty for one.
    """

    blocks: Blocks
    dtype: np.dtype
    covariance: bool
    about: Mapping[str, Any]
    slots: tuple[int, ...] = ()

    # The names of everything that a writer makes, relative to the folder of the results.
    made: ClassVar[re.Pattern[str]]

    @abstractmethod
    def create(self, folder: Path) -> None:
        """Create a new folder with everything but the blocks."""

    @abstractmethod
    def names(self, index: tuple[int, ...]) -> list[str]:
        """Return the names of the files of a block; none of these files is empty."""

    @abstractmethod
    def files(self, index: tuple[int, ...], keypoints: Keypoints) -> Iterator[tuple[str, bytes]]:
        """Yield name and contents of each file, from NumPy arrays of the full block size."""

    @staticmethod
    @abstractmethod
    def count(path: Path, statuses: Sequence[Status]) -> int:
        """Count the keypoints with one of these statuses in the results at a path."""


class ZarrWriter(Writer):
    """A group of ``coords``, ``scores``, ``status`` and, if there is one, ``covariance``.

    In each array, a block is one uncompressed chunk: the bytes of its values.
    """

    made = re.compile(r"zarr\.json|(coords|scores|status|covariance)(/(zarr\.json|c(\.\d+)*))?")

    def create(self, folder: Path) -> None:
        """Create the group and its arrays, without chunks."""
        zarr: Any = optional.load("zarr", extra="store")
        attributes = {**self.about, "status": {reason.name: reason.value for reason in Status}}
        group = zarr.create_group(folder, zarr_format=3, attributes=attributes)
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
        """Return the dtype, the fill value and the additional axes of each array, by name."""
        dim, slots = len(self.blocks.axes), self.slots
        covariance = {"covariance": (self.dtype, math.inf, (*slots, dim, dim))}
        return {
            "coords": (self.dtype, math.nan, (*slots, dim)),
            "scores": (self.dtype, math.nan, slots),
            **(covariance if self.covariance else {}),
            "status": (np.dtype(np.int8), Status.NOT_FINITE.value, slots),
        }

    def names(self, index: tuple[int, ...]) -> list[str]:
        """Return the name of one chunk of each array."""
        return [
            f"{name}/" + ".".join(["c", *map(str, index), *["0"] * len(beyond)])
            for name, (_, _, beyond) in self._arrays().items()
        ]

    def files(self, index: tuple[int, ...], keypoints: Keypoints) -> Iterator[tuple[str, bytes]]:
        """Yield one chunk of each array."""
        arrays = self._arrays().items()
        for name, (array, (dtype, _, _)) in zip(self.names(index), arrays, strict=True):
            values = np.asarray(getattr(keypoints, array))
            yield name, values.astype(dtype.newbyteorder("<")).tobytes()

    @staticmethod
    def count(path: Path, statuses: Sequence[Status]) -> int:
        """Count one chunk at a time."""
        zarr: Any = optional.load("zarr", extra="store")
        found = zarr.open_group(path, mode="r")["status"]
        starts = (range(0, n, size) for n, size in zip(found.shape, found.chunks, strict=True))
        parts = (
            tuple(slice(a, a + size) for a, size in zip(start, found.chunks, strict=True))
            for start in itertools.product(*starts)
        )
        return sum(int(np.isin(found[part], statuses).sum()) for part in parts)


class ParquetWriter(Writer):
    """Long tables, as :func:`dark_jax.save` writes them, with one part per block."""

    made = re.compile(r"_about\.json|part-\d{8,}\.parquet")

    def create(self, folder: Path) -> None:
        """Create the folder and ``_about.json``; every part repeats these parameters."""
        folder.mkdir()
        (folder / "_about.json").write_bytes(plain_json.json_bytes(self.about))
        others, dim = self.blocks.others, len(self.blocks.axes)
        if 0 in others:  # no block: one part without rows defines the columns
            others = (*others, *self.slots)
            fields = {"coords": (dim,), "scores": ()}
            fields |= {"covariance": (dim, dim)} if self.covariance else {}
            nothing: Any = {k: np.empty((*others, *n), self.dtype) for k, n in fields.items()}
            nothing |= {"status": np.empty(others, np.int8)}
            (folder / PART.format(0)).write_bytes(
                self._part(Keypoints(**nothing), first=(0,) * len(self.blocks.others))
            )

    def names(self, index: tuple[int, ...]) -> list[str]:
        """Return the name of one part."""
        return [PART.format(self.blocks.number(index))]

    def files(self, index: tuple[int, ...], keypoints: Keypoints) -> Iterator[tuple[str, bytes]]:
        """Yield one part."""
        part = self.blocks.part(index)
        there = tuple(slice(0, along.stop - along.start) for along in part)
        (name,) = self.names(index)
        yield name, self._part(keypoints[there], first=tuple(along.start for along in part))

    def _part(self, keypoints: Keypoints, *, first: tuple[int, ...]) -> bytes:
        usual = tables.SLOT_DIMS if self.slots else tables.USUAL_DIMS
        dims = usual[keypoints.scores.ndim]
        table = tables.make_table(keypoints, dims=dims, empty_slots=False)
        table = table._replace(first=(*first, *(0 for _ in self.slots)))
        return tables.file_contents(table, Path(PART.format(0)), about=self.about)

    @staticmethod
    def count(path: Path, statuses: Sequence[Status]) -> int:
        """Count by the names of the statuses."""
        dataset: Any = optional.load("pyarrow.dataset", extra="store")
        some = dataset.field("status").isin([status.name for status in statuses])
        return dataset.dataset(path, format="parquet").count_rows(filter=some)


KINDS: dict[str, type[Writer]] = {".zarr": ZarrWriter, ".parquet": ParquetWriter}


def read_about(path: Path) -> dict[str, Any] | None:
    """Return the parameters that made the results at ``path``; None if no :class:`Writer` did."""
    found = None
    for name in ("zarr.json", "_about.json"):
        try:
            contents = json.loads((path / name).read_text())
            found = contents.get("attributes", contents)
        except (OSError, ValueError, AttributeError):
            continue
    ours = isinstance(found, dict) and {"dark_jax", "decoder", "blocks"} <= found.keys()
    return found if ours else None
