"""Long tables of keypoints, read back by the libraries of their formats."""

import csv
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status
from tests.support import synthetic
from tests.support.by_hand import keypoints_of

COLUMNS = ["image", "instance", "joint", "name", "x", "y", "score", "status", "cxx", "cxy", "cyy"]
FORMATS = ("csv", "json", "parquet")

NAMES = ("nose", "tail", "left paw", "right paw", "ear")


def keypoints() -> Keypoints:
    """``[2, 5]``, also without a peak, NaN, infinite and at a border. One covariance is known."""
    coords = synthetic.rng(0).uniform(0, 60, (2, 5, 2)).astype(np.float32)
    scores = synthetic.rng(1).uniform(0, 1, (2, 5)).astype(np.float32)
    status = np.array([[0, 2, 1, 1, 3], [0, 0, 0, 0, 0]], np.int8)
    coords[0, 2], scores[0, 2], scores[0, 3] = np.nan, np.nan, np.inf
    covariance = np.full((2, 5, 2, 2), np.inf, np.float32)
    covariance[1, 2] = [[0.1, 0.02], [0.02, 0.3]]
    return keypoints_of(coords, scores, status, covariance)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows as a library reads them, with None where a value is missing."""
    if path.suffix == ".json":
        return json.loads(path.read_text())["keypoints"]
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    text = ("name", "status")
    with path.open(newline="") as stream:
        return [
            {k: v if k in text else np.float32(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(stream)
        ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_reads_back(tmp_path: Path, suffix: str) -> None:
    """Every number is exact to the last bit. The status says why a value is missing."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    made = keypoints()
    dark_jax.save(made, tmp_path / f"out.{suffix}", joints=NAMES)
    rows = read(tmp_path / f"out.{suffix}")
    assert [list(row) for row in rows] == [COLUMNS] * 10
    there = np.array([[1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
    made = jax.device_get(made)
    for row, (image, joint) in zip(rows, np.ndindex(2, 5), strict=True):
        at = image, joint
        assert (row["image"], row["instance"], row["joint"]) == (image, 0, joint)
        assert row["name"] == NAMES[joint]
        assert row["status"] == Status(int(made.status[at])).name
        place = [None if row[name] is None else np.float32(row[name]) for name in ("x", "y")]
        assert place == (made.coords[at].tolist() if there[at] else [None, None])
        score = float(made.scores[at])
        assert row["score"] == (np.float32(score) if np.isfinite(score) else None)
        spread = [None if row[name] is None else np.float32(row[name]) for name in COLUMNS[-3:]]
        known = made.covariance[at][np.triu_indices(2)].tolist()
        assert spread == (known if at == (1, 2) else [None] * 3)


def test_parquet_has_types_and_says_what_made_it(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    dark_jax.save(keypoints(), tmp_path / "out.parquet", about={"sigma": 2.0})
    table = parquet.read_table(tmp_path / "out.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == dict.fromkeys(COLUMNS[:3], "int64") | dict.fromkeys(
        ("x", "y", "score", "cxx", "cxy", "cyy"), "float"
    ) | dict.fromkeys(("name", "status"), "string")
    assert json.loads(table.schema.metadata[b"about"]) == {"sigma": 2.0}
    counts = {name: table[name].null_count for name in COLUMNS}
    assert counts == dict.fromkeys(COLUMNS, 0) | {
        "name": 10,
        "x": 3,
        "y": 3,
        "score": 2,
        "cxx": 9,
        "cxy": 9,
        "cyy": 9,
    }


def test_csv_is_numpy_s_too(tmp_path: Path) -> None:
    dark_jax.save(keypoints(), tmp_path / "out.csv")
    table = np.genfromtxt(
        tmp_path / "out.csv", delimiter=",", names=True, dtype=None, encoding=None
    )
    np.testing.assert_array_equal(np.isnan(table["x"]), [0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(
        table["y"][5:].astype(np.float32), np.asarray(keypoints().coords)[1, :, 1]
    )


def test_npz_is_the_arrays(tmp_path: Path) -> None:
    made = keypoints()
    dark_jax.save(made, tmp_path / "out.npz", about={"sigma": 2.0})
    with np.load(tmp_path / "out.npz") as arrays:
        for name in ("coords", "scores", "covariance"):
            np.testing.assert_array_equal(arrays[name], getattr(made, name))
        assert arrays["status"].dtype == np.int8
        np.testing.assert_array_equal(arrays["status"], made.status)
        words = arrays["status_names"][arrays["status"]]
        assert words[0].tolist() == [Status(s).name for s in np.asarray(made.status)[0]]
        assert (arrays["dims"].tolist(), arrays["joints"].tolist()) == (
            ["image", "joint"],
            [""] * 5,
        )
        assert json.loads(str(arrays["about"])) == {"sigma": 2.0}


def test_dims(tmp_path: Path) -> None:
    """After decode_peaks the instances are the last axis. Slots without a peak have no row."""
    coords = [[[[8, 8], [24, 12]], [[8, 8], [0, 0]]]]
    scores, status = np.array([[[1, 1], [1, 0]]]), np.array([[[0, 0], [0, Status.NO_PEAK]]])
    found = keypoints_of(coords, scores, status, np.full((1, 2, 2, 2, 2), np.inf))
    dark_jax.save(found, tmp_path / "out.csv", dims=("image", "joint", "instance"))
    rows = read(tmp_path / "out.csv")
    assert [(row["joint"], row["instance"]) for row in rows] == [(0, 0), (0, 1), (1, 0)]
    assert all(row["x"] is not None for row in rows)
    dark_jax.save(found, tmp_path / "out.csv", dims=("instance", "image", "joint"))
    assert [row["image"] for row in read(tmp_path / "out.csv")] == [0, 0, 1, 1]


@pytest.mark.parametrize("suffix", FORMATS)
def test_empty_slots(tmp_path: Path, suffix: str) -> None:
    """Empty slots get a row on request. Joints always get a row, and .npz stays whole."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    status = np.array([[0, 3, 2, 2], [0, 2, 2, 2], [2, 2, 2, 2], [1, 1, 1, 1]])
    found = keypoints_of(np.ones((4, 4, 2)), np.ones((4, 4)), status)
    path = tmp_path / f"out.{suffix}"
    taken = [(0, 0), (0, 1), (1, 0), *((3, n) for n in range(4))]
    cases: list[tuple[dict[str, Any], str, list[Any]]] = [
        ({"dims": ("image", "instance")}, "instance", taken),
        ({"dims": ("image", "instance"), "empty_slots": True}, "instance", [*np.ndindex(4, 4)]),
        ({}, "joint", [*np.ndindex(4, 4)]),
    ]
    for options, name, expected in cases:
        dark_jax.save(found, path, **options)
        assert [(row["image"], row[name]) for row in read(path)] == expected
    dark_jax.save(found[2], path, dims=("instance",))
    assert read(path) == []
    dark_jax.save(found, tmp_path / "out.npz", dims=("image", "instance"))
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["status"], status)
    with pytest.raises(TypeError, match="empty_slots must be True or False, got 'no'"):
        dark_jax.save(found, path, empty_slots="no")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_covariance_no_column(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    made = dataclasses.replace(keypoints(), covariance=None)
    dark_jax.save(made, tmp_path / f"out.{suffix}")
    rows = read(tmp_path / f"out.{suffix}")
    assert [list(row) for row in rows] == [COLUMNS[:-3]] * 10
    dark_jax.save(made, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        assert "covariance" not in arrays


@pytest.mark.parametrize(
    ("dim", "names"),
    [(1, ["x", "cxx"]), (3, ["x", "y", "z", "cxx", "cxy", "cxz", "cyy", "cyz", "czz"])],
)
def test_other_dimensions(dim: int, names: list[str], tmp_path: Path) -> None:
    spread = np.arange(dim * dim, dtype=np.float32).reshape(dim, dim)
    made = keypoints_of(np.arange(dim), 1, 0, spread)
    dark_jax.save(made, tmp_path / "out.csv", dims=())
    (row,) = read(tmp_path / "out.csv")
    assert [name for name in row if name in names or name not in COLUMNS] == names
    expected = [*range(dim), *spread[np.triu_indices(dim)].tolist()]
    assert [row[name] for name in names] == expected


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_a_table_without_rows(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    for part in (slice(0), (slice(None), slice(0))):
        made = jax.device_get(keypoints())
        none = jax.device_put(jax.tree.map(lambda leaf, part=part: leaf[part], made))
        dark_jax.save(none, tmp_path / f"out.{suffix}")
        assert read(tmp_path / f"out.{suffix}") == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("message", "arguments"),
        [
            (
                r"path must end in \.csv, \.json, \.npz, \.parquet, got 'out\.xlsx'",
                ["out.xlsx", {}],
            ),
            (
                r"dims must name the axes of scores \(2, 5\), each once.*after decode_peaks",
                ["o.csv", {"dims": ("joint",)}],
            ),
            ("got \\('joint', 'joint'\\)", ["o.csv", {"dims": ("joint", "joint")}]),
            ("one of .*, got \\('image', 'time'\\)", ["o.csv", {"dims": ("image", "time")}]),
            ("joints must be 5 names, got 2", ["o.csv", {"joints": ["a", "b"]}]),
        ],
    )
    def test_values(
        self, message: str, arguments: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=message):
            dark_jax.save(keypoints(), arguments[0], **arguments[1])
        assert not [*tmp_path.iterdir()]

    def test_types(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match=r"keypoints must be dark_jax\.Keypoints, got ndarray"):
            dark_jax.save(np.ones((2, 2)), tmp_path / "out.csv")  # pyright: ignore[reportArgumentType]

    def test_folders(self, tmp_path: Path) -> None:
        (tmp_path / "taken.csv").mkdir()
        for name, message in (
            ("taken.csv", "is a directory"),
            ("no/out.csv", "there is no folder"),
        ):
            with pytest.raises(OSError, match=message):
                dark_jax.save(keypoints(), tmp_path / name)


@pytest.mark.parametrize("suffix", [*FORMATS, "npz"])
def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"out.{suffix}"
    path.write_text("precious")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            dark_jax.save(keypoints(), path)
    assert path.read_text() == "precious"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    dark_jax.save(keypoints(), path)
    assert path.read_bytes() != b"precious"


def test_parquet_without_pyarrow_names_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "dark_jax\[parquet\]"'):
        dark_jax.save(keypoints(), tmp_path / "out.parquet")
    assert not [*tmp_path.iterdir()]


# Names with characters that split rows, end cells or begin a comment in some reader.
ODD_NAMES = ("a\rb", "c\nd", '"e"\r\n', ",;\t", " f ")


@pytest.mark.parametrize("suffix", [*FORMATS, "npz"])
def test_any_name(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"out.{suffix}"
    dark_jax.save(keypoints(), path, joints=ODD_NAMES)
    if suffix == "npz":
        with np.load(path) as arrays:
            assert tuple(arrays["joints"]) == ODD_NAMES
        return
    assert [row["name"] for row in read(path)] == [*ODD_NAMES] * 2
    if suffix == "csv":  # all line ends are line feeds, except in names
        text = path.read_bytes()
        for name in ODD_NAMES:
            text = text.replace(name.replace('"', '""').encode(), b"")
        assert b"\r" not in text
        assert text.count(b"\n") == 11


def test_no_name_is_null(tmp_path: Path) -> None:
    """A missing name is null in formats that have a null, and an empty cell in others."""
    for suffix in FORMATS:
        dark_jax.save(keypoints(), tmp_path / f"out.{suffix}")
        assert {row["name"] or None for row in read(tmp_path / f"out.{suffix}")} == {None}
    assert read(tmp_path / "out.json")[0]["name"] is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"joints": "abcde"}, TypeError, "joints must be a list or a tuple of names, got 'abcde'"),
        ({"joints": 5}, TypeError, "joints must be a list or a tuple of names, got 5"),
        ({"joints": {*"abcde"}}, TypeError, "joints must be a list or a tuple of names"),
        ({"joints": [*"abcd", None]}, TypeError, "joints .*, got None among them"),
        ({"joints": [*"abcd", b"e"]}, TypeError, "joints .*, got b'e' among them"),
        ({"joints": [*"abcd", "\ud800"]}, ValueError, "joints must be names that a file can hold"),
        ({"joints": [*"abcd", "e\0"]}, ValueError, "joints must be names that a file can hold"),
        ({"joints": [*"abcd"]}, ValueError, "joints must be 5 names, got 4"),
        ({"dims": None}, TypeError, "dims must be a list or a tuple of names, got None"),
        ({"dims": "ij"}, TypeError, "dims must be a list or a tuple of names, got 'ij'"),
        ({"dims": ("image", 1)}, TypeError, "dims .*, got 1 among them"),
    ],
)
def test_names_are_checked(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dark_jax.save(keypoints(), tmp_path / "out.csv", **options)
    assert not [*tmp_path.iterdir()]


def test_lists_and_arrays_of_names(tmp_path: Path) -> None:
    for joints in ([*NAMES], np.array(NAMES), (name for name in NAMES)):
        dark_jax.save(keypoints(), tmp_path / "out.csv", dims=["image", "joint"], joints=joints)  # pyright: ignore[reportArgumentType]
        assert read(tmp_path / "out.csv")[4]["name"] == "ear"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"status": np.int8(9)}, ValueError, "keypoints.status must be 0 to 5, got 9"),
        ({"status": np.int8(-1)}, ValueError, "keypoints.status must be 0 to 5, got -1"),
        ({"status": np.float32(0)}, TypeError, "keypoints.status must be integers, got .*float32"),
        (
            {"scores": np.zeros(1, np.float32)},
            ValueError,
            r"keypoints.scores must have shape \(2, 5\)",
        ),
        (
            {"scores": np.complex64(0)},
            TypeError,
            "keypoints.scores must hold real numbers, got .*complex",
        ),
        ({"scores": None}, TypeError, "keypoints.scores must be an array, got NoneType"),
    ],
)
def test_keypoints_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The keypoints are made by a user, not by a decoder."""
    fields = vars(keypoints())
    for name, value in changes.items():
        whole = value is None or value.shape == (1,)
        fields[name] = value if whole else np.full(fields[name].shape, value)
    with pytest.raises(error, match=message):
        dark_jax.save(Keypoints(**fields), tmp_path / "out.csv")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("suffix", [*FORMATS, "npz"])
def test_bfloat16_becomes_float32(tmp_path: Path, suffix: str) -> None:
    """NumPy's files and Parquet do not have bfloat16."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    made = keypoints_of([[0.3, 7.0]], [0.3], [0], np.ones((1, 2, 2)))
    short = jax.tree.map(lambda leaf: leaf.astype("bfloat16") if leaf.ndim > 1 else leaf, made)
    dark_jax.save(short, tmp_path / f"out.{suffix}", dims=("joint",))
    x = np.float32(0.30078125)
    if suffix == "npz":
        with np.load(tmp_path / "out.npz") as arrays:
            assert (arrays["coords"].dtype, arrays["coords"][0, 0]) == (np.float32, x)
        return
    (row,) = read(tmp_path / f"out.{suffix}")
    assert row["x"] == x
