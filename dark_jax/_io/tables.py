"""Keypoints as long tables: one row a keypoint, in the format a file's suffix names."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dark_jax._core import optional
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._io.atomic import check_target, json_bytes, write_together

SUFFIXES = (".csv", ".json", ".npz", ".parquet")

# What the axes of the scores can be, in the order of the table's first columns.
AXES = ("image", "instance", "joint")


def has_keypoint(coords: np.ndarray, status: np.ndarray) -> np.ndarray:
    """``[...]``, where there is a keypoint: coordinates without a peak are of no use in a file."""
    missing = (status == Status.NO_PEAK) | (status == Status.NOT_FINITE)
    return ~missing & np.isfinite(coords).all(-1)


class Table(NamedTuple):
    """Keypoints as NumPy arrays whose leading axes have names.

    Attributes:
        coords: ``[..., dim]`` (x, y).
        scores: ``[...]``.
        status: ``[...]``, a :class:`Status`.
        covariance: ``[..., dim, dim]``.
        axes: what each of the leading axes is, one of ``AXES``.
        joints: the joints' names; empty strings if unknown.
        peaks: ``[..., dim]``, the integer peaks the coordinates were refined from, if known.
        first: where the arrays begin in a larger result, along each leading axis; else 0.
    """

    coords: np.ndarray
    scores: np.ndarray
    status: np.ndarray
    covariance: np.ndarray
    axes: tuple[str, ...]
    joints: tuple[str, ...]
    peaks: np.ndarray | None = None
    first: tuple[int, ...] | None = None

    @property
    def reasons(self) -> np.ndarray:
        """``[...]``, the names of the status."""
        return np.array([reason.name for reason in Status])[self.status]

    @property
    def moved(self) -> np.ndarray | None:
        """``[...]``, the distance of each keypoint from its integer peak in pixels, if known."""
        if self.peaks is None:
            return None
        return np.linalg.norm(self.coords - self.peaks, axis=-1).astype(self.coords.dtype)

    def columns(self) -> dict[str, np.ndarray]:
        """One value a keypoint, in row-major order; NaN for every number that is missing."""
        there = has_keypoint(self.coords, self.status)
        place = dict(zip(self.axes, np.indices(self.scores.shape), strict=True))
        zeros = np.zeros(self.scores.shape, int)
        index = {name: place.get(name, zeros) for name in AXES}
        first = dict(zip(self.axes, self.first or (0,) * len(self.axes), strict=True))
        dims = "xyz"[: self.coords.shape[-1]]
        floats = {name: np.where(there, self.coords[..., n], np.nan) for n, name in enumerate(dims)}
        spread = {
            f"c{dims[i]}{dims[j]}": np.where(there, self.covariance[..., i, j], np.nan)
            for i, j in itertools.combinations_with_replacement(range(len(dims)), 2)
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
        return {name: _finite(column.ravel()) for name, column in columns.items()}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a keypoint; NumPy scalars print as the shortest number that reads back."""
        columns = self.columns()
        for values in zip(*columns.values(), strict=True):
            # NaN is what differs from itself.
            known = (None if value != value else value for value in values)
            yield dict(zip(columns, known, strict=True))


def _finite(column: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(column), column, np.nan) if column.dtype.kind == "f" else column


def make_table(
    keypoints: Keypoints,
    *,
    axes: tuple[str, ...],
    joints: Sequence[str] | None = None,
    peaks: np.ndarray | None = None,
) -> Table:
    """Decoded keypoints as a table.

    Raises:
        ValueError: ``axes`` are not what the scores have; ``joints`` are not one name each.
    """
    shape = tuple(keypoints.scores.shape)
    if not set(axes) <= set(AXES) or len(set(axes)) < len(axes) or len(axes) != len(shape):
        raise ValueError(
            f"axes must name the axes of scores {shape}, each once and one of {AXES}, got {axes}"
        )
    count = shape[axes.index("joint")] if "joint" in axes else 1
    if joints is not None and len(joints) != count:
        raise ValueError(f"joints must be {count} names, got {len(joints)}")
    return Table(
        *(np.asarray(getattr(keypoints, name)) for name in Table._fields[:4]),
        axes=tuple(axes),
        joints=("",) * count if joints is None else tuple(map(str, joints)),
        peaks=peaks,
    )


def file_contents(
    table: Table, path: Path, *, about: Mapping[str, Any], shape: tuple[int, ...]
) -> bytes:
    """The contents of a result file of the format that ``path``'s suffix names.

    Args:
        table: the keypoints.
        path: ends in one of ``SUFFIXES``.
        about: the parameters that made the result; kept in all but ``.csv``.
        shape: leading shape of the source, restored in ``.npz``.
    """
    if path.suffix == ".csv":
        return _csv(table)
    if path.suffix == ".json":
        return _json(table, about)
    if path.suffix == ".parquet":
        return _parquet(table, about)
    stream = io.BytesIO()
    np.savez(
        stream,
        coords=table.coords.reshape(*shape, table.coords.shape[-1]),
        scores=table.scores.reshape(shape),
        status=table.reasons.reshape(shape),
        covariance=table.covariance.reshape(*shape, *table.covariance.shape[-2:]),
        about=np.array(json.dumps(about)),
    )
    return stream.getvalue()


def _csv(table: Table) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, table.columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows())
    return stream.getvalue().encode()


def _json(table: Table, about: Mapping[str, Any]) -> bytes:
    keypoints = [{name: plain(value) for name, value in row.items()} for row in table.rows()]
    return json_bytes({**about, "keypoints": keypoints})


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's, a float as the shortest number that reads back."""
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def _parquet(table: Table, about: Mapping[str, Any]) -> bytes:
    arrow: Any = optional.load("pyarrow", extra="parquet")
    parquet: Any = optional.load("pyarrow.parquet", extra="parquet")
    # Only what comes from pandas may say null as NaN.
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
    axes: tuple[str, ...] = ("image", "joint"),
    joints: Sequence[str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write keypoints to a file, whole or not at all.

    ``.csv``, ``.json`` and ``.parquet`` (extra ``parquet``) are long tables, a row a keypoint:
    ``image``, ``instance`` and ``joint`` (counted from 0), the joint's ``name``, ``x``, ``y``,
    ``score``, the name of the ``status``, and the covariance ``cxx``, ``cxy``, ``cyy``. What is
    missing is an empty cell, or null: the coordinates of ``NO_PEAK`` and ``NOT_FINITE``, and
    every number that is not finite. ``.npz`` has the arrays as they are. COCO's own format is
    :func:`dark_jax.coco.save`.

    Args:
        keypoints: what a decoder returned, on the host or a device.
        path: its suffix chooses the format; an older file is replaced.
        axes: what the axes of ``keypoints.scores`` are: each ``"image"``, ``"instance"`` or
            ``"joint"``. After :func:`decode_peaks` of ``[B, J, H, W]``:
            ``("image", "joint", "instance")``.
        joints: a name for each joint.
        about: whatever made the result and JSON can say; kept in all but ``.csv``.

    Returns:
        None.

    Raises:
        TypeError: ``keypoints`` are none.
        ValueError: ``path`` has another suffix; ``axes`` are not what the scores have;
            ``joints`` are not one name each.
        OSError: the file cannot be written.
        ImportError: pyarrow is not installed, and ``path`` ends in ``.parquet``.

    Example:
        >>> import dark_jax, pathlib, tempfile
        >>> keypoints = dark_jax.decode(dark_jax.encode([[[12.0, 9.5]]], size=(24, 20)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "keypoints.csv"
        ...     dark_jax.save(keypoints, path, joints=["nose"])
        ...     print(path.read_text().splitlines()[0])
        image,instance,joint,name,x,y,score,status,cxx,cxy,cyy

    References:
        Wickham, Tidy Data, J. Stat. Software 59 (2014).
    """
    if not isinstance(keypoints, Keypoints):
        raise TypeError(f"keypoints must be dark_jax.Keypoints, got {type(keypoints).__name__}")
    path = Path(path)
    check_target(path, suffixes=SUFFIXES, option="path")
    table = make_table(keypoints, axes=axes, joints=joints)
    contents = file_contents(table, path, about=about or {}, shape=table.scores.shape)
    write_together({path: contents})
