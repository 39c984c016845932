"""Keypoints as long tables with one row per keypoint, in the format that a file suffix names."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dark_jax._core import checks, optional
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._io.atomic import check_target, write_together
from dark_jax._io.plain_json import as_json, json_bytes, plain

SUFFIXES = (".csv", ".json", ".npz", ".parquet")

# The possible names of the axes of the scores, in the order of the first columns of a table.
DIMS = ("image", "instance", "joint")
STATUS_NAMES = tuple(reason.name for reason in Status)
# The names of the axes if none are given, by the number of axes.
USUAL_DIMS = ((), ("joint",), ("image", "joint"), DIMS)
# The same, if the last axis holds several peaks of a map.
SLOT_DIMS = ((), ("instance",), ("image", "instance"), ("image", "joint", "instance"))


def has_keypoint(coords: np.ndarray, status: np.ndarray) -> np.ndarray:
    """``[...]``, whether there is a keypoint; files omit coordinates without a peak."""
    missing = (status == Status.NO_PEAK) | (status == Status.NOT_FINITE)
    return ~missing & np.isfinite(coords).all(-1)


class Table(NamedTuple):
    """Keypoints as NumPy arrays whose leading axes have names.

    Attributes:
        coords: ``[..., dim]`` (x, y).
        scores: ``[...]``.
        status: ``[...]``, a :class:`Status`.
        covariance: ``[..., dim, dim]``, if there is one.
        dims: the name of each leading axis, one of ``DIMS``.
        joints: the names of the joints; empty strings if unknown.
        peaks: ``[..., dim]``, the integer peaks the coordinates were refined from, if known.
        first: the index at which the arrays begin in a larger result, along each leading axis;
            None means 0.
        empty_slots: whether empty slots of peaks have rows.
    """

    coords: np.ndarray
    scores: np.ndarray
    status: np.ndarray
    covariance: np.ndarray | None
    dims: tuple[str, ...]
    joints: tuple[str, ...]
    peaks: np.ndarray | None = None
    first: tuple[int, ...] | None = None
    empty_slots: bool = True

    @property
    def reasons(self) -> np.ndarray:
        """``[...]``, the name of each status."""
        return np.array(STATUS_NAMES)[self.status]

    @property
    def moved(self) -> np.ndarray | None:
        """``[...]``, the distance of each keypoint from its integer peak in pixels, if known."""
        if self.peaks is None:
            return None
        return np.linalg.norm(self.coords - self.peaks, axis=-1).astype(self.coords.dtype)

    @property
    def kept(self) -> np.ndarray:
        """``[...]``, which keypoints have a row: all, or all that are not empty slots.

        The slots of ``decode_peaks`` are instances along the last axis. If the last axis holds
        joints, a joint without a peak has a row, too.
        """
        slots = self.dims[-1:] == ("instance",)
        return (self.status != Status.NO_PEAK) | (self.empty_slots or not slots)

    def columns(self) -> dict[str, np.ndarray]:
        """Return columns of one value per row, in row-major order; missing numbers are NaN."""
        there = has_keypoint(self.coords, self.status)
        place = dict(zip(self.dims, np.indices(self.scores.shape), strict=True))
        zeros = np.zeros(self.scores.shape, int)
        index = {name: place.get(name, zeros) for name in DIMS}
        first = dict(zip(self.dims, self.first or (0,) * len(self.dims), strict=True))
        xyz = "xyz"[: self.coords.shape[-1]]
        floats = {name: np.where(there, self.coords[..., n], np.nan) for n, name in enumerate(xyz)}
        spread = {}
        if self.covariance is not None:
            spread = {
                f"c{xyz[i]}{xyz[j]}": np.where(there, self.covariance[..., i, j], np.nan)
                for i, j in itertools.combinations_with_replacement(range(len(xyz)), 2)
            }
        if (moved := self.moved) is not None:
            spread["moved"] = np.where(there, moved, np.nan)
        columns = {
            **{name: along + first.get(name, 0) for name, along in index.items()},
            "name": np.array(self.joints, str)[index["joint"]],
            **floats,
            "score": self.scores,
            "status": self.reasons,
            **spread,
        }
        return {name: _finite(np.asarray(column)[self.kept]) for name, column in columns.items()}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row per keypoint; NumPy scalars print as the shortest number that reads back."""
        columns = self.columns()
        names = columns["name"] = columns["name"].astype(object)
        names[names == ""] = None
        for values in zip(*columns.values(), strict=True):
            # Only NaN differs from itself.
            known = (None if value != value else value for value in values)
            yield dict(zip(columns, known, strict=True))


def _finite(column: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(column), column, np.nan) if column.dtype.kind == "f" else column


def make_table(
    keypoints: Keypoints,
    *,
    dims: tuple[str, ...],
    joints: Sequence[str] | None = None,
    peaks: np.ndarray | None = None,
    empty_slots: bool = True,
) -> Table:
    """Return decoded keypoints as a table.

    Raises:
        TypeError: ``dims`` or ``joints`` are not names.
        ValueError: ``dims`` do not fit the axes of the scores; ``joints`` are not one per joint.
    """
    shape = tuple(keypoints.scores.shape)
    dims = _names("dims", dims)
    cure = ""
    if 0 < len(shape) < len(USUAL_DIMS):
        cure = f"; give {USUAL_DIMS[len(shape)]}, or after decode_peaks {SLOT_DIMS[len(shape)]}"
    if not set(dims) <= set(DIMS) or len(set(dims)) < len(dims) or len(dims) != len(shape):
        raise ValueError(
            f"dims must name the axes of scores {shape}, each once and one of {DIMS}, got {dims}"
            f"{cure}"
        )
    count = shape[dims.index("joint")] if "joint" in dims else 1
    names = ("",) * count if joints is None else _names("joints", joints)
    if len(names) != count:
        raise ValueError(f"joints must be {count} names, got {len(names)}: {names}")
    covariance = keypoints.covariance
    return Table(
        _readable(keypoints.coords),
        _readable(keypoints.scores),
        np.asarray(keypoints.status),
        None if covariance is None else _readable(covariance),
        dims=dims,
        joints=names,
        peaks=peaks,
        empty_slots=empty_slots,
    )


def _readable(values: jax.Array | np.ndarray) -> np.ndarray:
    """Convert to float32 or float64, because files have no bfloat16."""
    dtype = np.float64 if values.dtype == np.float64 else np.float32
    return np.asarray(values).astype(dtype, copy=False)


def _names(name: str, value: Any) -> tuple[str, ...]:
    """Return ``value`` as a tuple of names that a file can hold."""
    expected = "a list or a tuple of names"
    # Sets have no order. A pandas index is not a Sequence, so any other iterable is accepted.
    unordered = str | bytes | set | frozenset | Mapping
    if isinstance(value, unordered) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    for each in (value := tuple(value)):
        if not isinstance(each, str):
            raise TypeError(f"{name} must be {expected}, got {each!r} among them")
        if "\0" in each or each.encode(errors="ignore").decode() != each:
            raise ValueError(f"{name} must be names that a file can hold, got {each!r}")
    return tuple(map(str, value))


def file_contents(table: Table, path: Path, *, about: Mapping[str, Any]) -> bytes:
    """Return the contents of a result file, in the format that the suffix of ``path`` names.

    Args:
        table: the keypoints.
        path: ends in one of ``SUFFIXES``.
        about: the parameters that made the result; kept in all formats but ``.csv``.
    """
    about = as_json("about", about)
    if path.suffix == ".csv":
        return _csv(table)
    if path.suffix == ".json":
        return _json(table, about)
    if path.suffix == ".parquet":
        return _parquet(table, about)
    stream = io.BytesIO()
    spread = {} if table.covariance is None else {"covariance": table.covariance}
    np.savez(
        stream,
        coords=table.coords,
        scores=table.scores,
        status=table.status,
        status_names=np.array(STATUS_NAMES),
        **spread,  # pyright: ignore[reportArgumentType]
        dims=np.array(table.dims, str),
        joints=np.array(table.joints, str),
        about=np.array(json.dumps(about)),
    )
    return stream.getvalue()


class _Lines(io.StringIO):
    """A stream for a CSV writer, which calls ``write`` once a line; lines end in a line feed."""

    def write(self, line: str) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def _csv(table: Table) -> bytes:
    stream = _Lines(newline="")
    # The writer quotes fields that contain a character of its line end, "\r" or "\n".
    writer = csv.DictWriter(stream, table.columns(), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(table.rows())
    return stream.getvalue().encode()


def _json(table: Table, about: Mapping[str, Any]) -> bytes:
    keypoints = [{name: plain(value) for name, value in row.items()} for row in table.rows()]
    return json_bytes({"about": about, "keypoints": keypoints})


def _parquet(table: Table, about: Mapping[str, Any]) -> bytes:
    arrow: Any = optional.load("pyarrow", extra="parquet")
    parquet: Any = optional.load("pyarrow.parquet", extra="parquet")
    # Arrow reads NaN as null only with from_pandas=True.
    columns = {
        name: arrow.array(column, mask=column == "" if name == "name" else None, from_pandas=True)
        for name, column in table.columns().items()
    }
    stream = arrow.BufferOutputStream()
    written = arrow.table(columns).replace_schema_metadata({"about": json.dumps(about)})
    parquet.write_table(written, stream)
    return stream.getvalue().to_pybytes()


def save(
    keypoints: Keypoints,
    path: str | os.PathLike[str],
    *,
    dims: tuple[str, ...] = ("image", "joint"),
    joints: Sequence[str] | None = None,
    empty_slots: bool = False,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write keypoints to a file. The file is written completely or not at all.

    Args:
        keypoints: the result of a decoder, on the host or on a device.
        path: ends in ``.csv``, ``.json``, ``.npz`` or ``.parquet`` (extra ``parquet``). An
            existing file is replaced.
        dims: the meaning of each axis of ``keypoints.scores``: ``"image"``, ``"instance"`` or
            ``"joint"``. The default is for scores ``[B, J]``. Use ``("joint",)`` for ``[J]`` and
            ``("image", "instance", "joint")`` for ``[B, I, J]``. After :func:`decode_peaks` the
            last axis is ``"instance"``: ``("image", "joint", "instance")`` for maps
            ``[B, J, H, W]``, ``("image", "instance")`` for ``[B, H, W]``, ``("instance",)`` for
            ``[H, W]``.
        joints: a name for each joint.
        empty_slots: whether tables have rows for the empty slots of :func:`decode_peaks`. If
            ``"instance"`` is the last of ``dims``, every ``NO_PEAK`` is an empty slot.
        about: a dictionary that describes how the result was made: text, finite numbers, arrays,
            and lists and dictionaries of them. All formats but ``.csv`` keep it as JSON: in
            ``.json`` under ``"about"``, in ``.npz`` as text in the array ``about``, in
            ``.parquet`` in the metadata ``about``.

    Returns:
        None.

    Notes:
        ``.csv``, ``.json`` and ``.parquet`` have one row for each keypoint, with the columns
        ``image``, ``instance`` and ``joint`` (counted from 0), ``name``, ``x``, ``y``, ``score``,
        ``status`` (as a word) and, if there is a covariance, ``cxx``, ``cxy`` and ``cyy``. 1-D
        maps and volumes have the columns of their axes. Values that are not known are empty cells
        or null: coordinates of ``NO_PEAK`` and ``NOT_FINITE``, and numbers that are not finite.
        The command ``dark-jax`` adds the column ``moved``, the distance of a refined keypoint
        from its integer peak in pixels, for maps that fit in memory, except with
        ``--decoder peaks``.

        ``.npz`` has the arrays ``coords``, ``scores``, ``status``, ``covariance`` (if there is
        one), ``dims``, ``joints``, ``about``, and ``status_names``, the name of each status
        number.

        :func:`dark_jax.coco.save` writes COCO's format.

    Raises:
        TypeError: ``keypoints`` are not :class:`Keypoints`; ``path`` is not a path; ``dims`` or
            ``joints`` are not names; ``empty_slots`` is not a bool; ``about`` is not a dictionary
            that JSON can hold.
        ValueError: ``path`` has another suffix; ``dims`` do not match the axes of the scores;
            ``joints`` are not one name for each joint; a number in ``about`` is not finite; the
            arrays of ``keypoints`` do not fit together, or a status is not a :class:`Status`.
        OSError: the file cannot be written; ``path`` is a folder, a device or a pipe.
        ImportError: pyarrow is not installed, and ``path`` ends in ``.parquet``.

    Example:
        >>> import dark_jax, pathlib, tempfile
        >>> keypoints = dark_jax.decode(dark_jax.encode([[[12.0, 9.5]]], size=(24, 20)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "keypoints.csv"
        ...     dark_jax.save(keypoints, path, joints=["nose"])
        ...     print(path.read_text().splitlines()[0])
        image,instance,joint,name,x,y,score,status

    References:
        Wickham, Tidy Data, J. Stat. Software 59 (2014).
    """
    checks.keypoints("keypoints", keypoints)
    path = checks.path("path", path)
    check_target(path, suffixes=SUFFIXES, option="path")
    if about is not None and not isinstance(about, Mapping):
        raise TypeError(f"about must be a dictionary, got {about!r}")
    checks.flag("empty_slots", empty_slots)
    table = make_table(keypoints, dims=dims, joints=joints, empty_slots=empty_slots)
    contents = file_contents(table, path, about={} if about is None else about)
    write_together({path: contents})
