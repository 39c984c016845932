"""``about`` is saved with results: all of it, as JSON that any reader accepts, or an error."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import coco
from tests.support.by_hand import keypoints_of

pytest.importorskip("pyarrow")
pytest.importorskip("flatbuffers")

from dark_jax import export

ONE = keypoints_of(np.zeros((1, 1, 2)), np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1, 2, 2)))
FORMATS = (".json", ".npz", ".parquet")
CIRCLE: dict[str, Any] = {}
CIRCLE["a"] = [CIRCLE]


def strict(text: Any) -> Any:
    """Read standard JSON, which has no NaN or Infinity and does not repeat a name."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=once)


def kept(path: Path) -> Any:
    """The ``about`` of a result file."""
    if path.suffix == ".json":
        return strict(path.read_text())["about"]
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return strict(parquet.read_table(path).schema.metadata[b"about"])
    with np.load(path) as arrays:
        return strict(str(arrays["about"]))


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_lost(tmp_path: Path, suffix: str) -> None:
    """``about`` may have any names, also those that the file itself uses."""
    about = {
        "keypoints": 3,
        "about": {"keypoints": [1, None, True, "\r\n\ud800"]},
        "coords": np.float32(0.1),
        "status": np.arange(3),
        "scores": jnp.ones((2, 1)),
        "axes": (-2, np.int64(2**40)),
        "joints": {0: "nose", 1: "tail"},
        "": "",
    }
    dark_jax.save(ONE, tmp_path / f"out{suffix}", about=about)
    assert kept(tmp_path / f"out{suffix}") == {
        "keypoints": 3,
        "about": {"keypoints": [1, None, True, "\r\n\ud800"]},
        "coords": 0.1,
        "status": [0, 1, 2],
        "scores": [[1.0], [1.0]],
        "axes": [-2, 2**40],
        "joints": {"0": "nose", "1": "tail"},
        "": "",
    }


@pytest.mark.parametrize("suffix", [*FORMATS, ".csv"])
@pytest.mark.parametrize(
    ("about", "error", "message"),
    [
        (
            {"a": {"b": [1.0, np.nan]}},
            ValueError,
            r"about\['a'\]\['b'\]\[1\] must be a finite .*nan",
        ),
        ({"a": np.float32("inf")}, ValueError, r"about\['a'\] must be a finite number.*got inf"),
        ({"a": np.array([0, -np.inf])}, ValueError, r"about\['a'\]\[1\] must be a finite number"),
        (
            {"a": Path("maps.npy")},
            TypeError,
            r"about\['a'\] must be something that JSON .*got PosixPath",
        ),
        (
            {"a": {1, 2}},
            TypeError,
            r"about\['a'\] must be something that JSON can represent.*got set",
        ),
        (
            {"a": b"1"},
            TypeError,
            r"about\['a'\] must be something that JSON can represent.*got bytes",
        ),
        (
            {"a": 1j},
            TypeError,
            r"about\['a'\] must be something that JSON can represent.*got complex",
        ),
        ({"a": {(1,): 2}}, TypeError, r"about\['a'\] must have text as keys, got \(1,\)"),
        ({"a": {1: 2, "1": 3}}, ValueError, r"about\['a'\] must have keys that differ as text"),
        (CIRCLE, ValueError, "about must not contain itself"),
        ([1], TypeError, r"about must be a dictionary, got \[1\]"),
        ("sigma", TypeError, "about must be a dictionary, got 'sigma'"),
    ],
)
def test_what_json_cannot_say(
    tmp_path: Path, suffix: str, about: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dark_jax.save(ONE, tmp_path / f"out{suffix}", about=about)
    assert not [*tmp_path.iterdir()]


def test_artefacts_say_it_in_words(tmp_path: Path) -> None:
    """Values that JSON cannot express, such as NaN, are saved as their ``repr``."""
    parameters = {"a": np.nan, "b": np.array([1.0, -np.inf]), "c": {"d": 1j, "e": dark_jax.decode}}
    artefact = export.export_function(
        jnp.abs, np.zeros(2, np.float32), platforms=("cpu",), parameters=parameters
    )
    export.save(artefact, tmp_path / "function.zip")
    with zipfile.ZipFile(tmp_path / "function.zip") as archive:
        about = strict(archive.read("about.json"))
    assert about["parameters"] == {
        "a": "nan",
        "b": [1.0, "-inf"],
        "c": {"d": "1j", "e": repr(dark_jax.decode)},
    }
    assert export.load(artefact).about == about


def test_coco_results_of_numpy_numbers(tmp_path: Path) -> None:
    """A user's results may hold NumPy numbers. A float32 does not get more digits."""
    result = {
        "image_id": np.int64(3),
        "keypoints": np.array([0.1, 2, 1], np.float32),
        "score": np.float64(1),
    }
    coco.save([result], tmp_path / "results.json")
    assert strict((tmp_path / "results.json").read_text()) == [
        {"image_id": 3, "keypoints": [0.1, 2.0, 1.0], "score": 1.0}
    ]
    for wrong, message in {
        "one": "results must be a list of dicts, got str",
        b"one": "results must be a list of dicts, got bytes",
        3: "results must be a list of dicts, got int",
    }.items():
        with pytest.raises(TypeError, match=message):
            coco.save(wrong, tmp_path / "other.json")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="results must be a list of dicts, got dict"):
        coco.save(result, tmp_path / "other.json")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"results\[1\] must be a dict, got 'image_id'"):
        coco.save([result, "image_id"], tmp_path / "other.json")  # pyright: ignore[reportArgumentType]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
