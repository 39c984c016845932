"""Every decoder on the command line, by its name and options, in memory and for stores."""

import csv
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, rules
from tests.support import synthetic

pytest.importorskip("click")
pytest.importorskip("zarr")
pytest.importorskip("dask")

from dark_jax import _cli, _decoder_options
from dark_jax._stores.decoder import DECODERS

PEAKS = functools.partial(
    dark_jax.decode_peaks, threshold=110, background=100, max_peaks=3, min_distance=2
)
CASES: dict[str, tuple[Callable[..., Keypoints], str]] = {
    "dark": (dark_jax.decode, ""),
    "rule": (
        functools.partial(dark_jax.decode, rule=rules.VITPOSE, kernel_size=5),
        "--decoder DARK --rule vitpose --kernel-size 5",
    ),
    "blur": (
        functools.partial(dark_jax.decode, blur_sigma=(1.0, 1.5), covariance=True),
        "--blur-sigma 1,1.5 --covariance",
    ),
    "soft argmax without bias": (
        functools.partial(dark_jax.decode_soft_argmax, temperature=0.1, debias=True),
        "--decoder soft-argmax --temperature 0.1 --debias",
    ),
    "fit": (
        functools.partial(dark_jax.decode_fit, sigma=2.0, background=100.0, radius=4),
        "--decoder fit --sigma 2 --background 100 --radius 4",
    ),
    "fit of a background": (
        functools.partial(
            dark_jax.decode_fit, sigma=(2.0, 2.0), background=None, from_blurred=True
        ),
        "--decoder Fit --sigma 2,2 --background none --from-blurred",
    ),
    "soft argmax": (
        functools.partial(dark_jax.decode_soft_argmax, temperature=2.0, radius=3),
        "--decoder soft-argmax --temperature 2 --radius 3",
    ),
    "peaks": (
        PEAKS,
        "--decoder peaks --threshold 110 --background 100 --max-peaks 3 --min-distance 2",
    ),
}


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """``[2, 3, 24, 20]`` maps on a level of 100, also in a file and in a store."""
    import zarr

    monkeypatch.chdir(tmp_path)
    values, _ = synthetic.gaussians(0, 6, (24, 20), sigma=2.0, margin=6.0)
    values = 100 + 50 * values.reshape(2, 3, 24, 20)
    np.save("maps.npy", values)
    zarr.create_array("maps.zarr", data=values, chunks=(1, 3, 24, 20))
    return values


@pytest.mark.parametrize("name", CASES)
def test_as_in_python(maps: np.ndarray, name: str) -> None:
    import zarr

    decoder, options = CASES[name]
    expected = decoder(maps)
    assert _cli.run(["decode", "maps.npy", "-o", "out.npz", *options.split()]) == 0
    assert _cli.run(["decode", "maps.zarr", "-o", "out.zarr", *options.split()]) == 0
    group: Any = zarr.open_group("out.zarr", mode="r")
    with np.load("out.npz") as arrays:
        for found in (arrays, group):
            assert ("covariance" in found) == (expected.covariance is not None)
            np.testing.assert_array_equal(found["status"][:], expected.status)
            np.testing.assert_allclose(found["coords"][:], expected.coords, rtol=0, atol=1e-5)
        about = json.loads(str(arrays["about"]))
        assert about["decoder"] == group.attrs["decoder"] == DECODERS[name_of(options)].__name__
        same = about.keys() & dict(group.attrs).keys() - {"source", "status"}
        assert len(same) >= 4
        assert all(about[key] == group.attrs[key] for key in same)


def name_of(options: str) -> str:
    words = options.lower().split()
    return words[words.index("--decoder") + 1] if "--decoder" in words else "dark"


def test_peaks_are_instances(maps: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    """Instances are in the printed table and in the file. Empty slots are in neither."""
    expected = np.asarray(PEAKS(maps).found)
    options = CASES["peaks"][1].split()
    assert _cli.run(["decode", "maps.npy", "-o", "out.csv", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f" of {expected.sum()} keypoints refined" in out
    with open("out.csv") as stream:
        rows = [*csv.DictReader(stream)]
    places = [(int(row["image"]), int(row["joint"]), int(row["instance"])) for row in rows]
    assert places == [*map(tuple, np.argwhere(expected).tolist())]
    assert "moved" not in rows[0]
    np.save("one.npy", maps[0, 0])
    assert _cli.run(["decode", "one.npy", *options]) == 0
    assert "joint" not in capsys.readouterr().out


def test_every_parameter_is_an_option() -> None:
    """Every parameter of a decoder is an option, except the axes, which describe the file."""
    for function in DECODERS.values():
        _, *parameters = inspect.signature(function).parameters
        assert {*parameters} - {"axes"} == {*_decoder_options._of(function)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--sigma 2", "--sigma is for --decoder fit, got --decoder dark, which takes --rule, --k"),
        ("--decoder fit", "--decoder fit needs --sigma, for example --sigma 2"),
        ("--decoder soft-argmax", "--decoder soft-argmax needs --temperature, for example --temp"),
        ("--decoder peaks", "--decoder peaks needs --threshold, for example --threshold 0.2"),
        (
            "--decoder peaks --threshold 1 --radius 2",
            "--radius is for --decoder fit or soft-argmax, got --decoder peaks",
        ),
        ("--decoder fit --sigma 1,x", "'1,x' is not a number, or numbers with commas between"),
        ("--decoder fit --sigma 1,2,3", "--sigma must broadcast to (2, 3, 2), got shape (3,)"),
        ("--decoder fit --sigma 2 --radius 0", "--radius must be an integer of at least 1, got 0"),
        ("--decoder fit --sigma 2 --background a", "'a' is not a valid float"),
        ("--decoder peaks --threshold 1 --background none", "--background must be a number or an"),
        ("--decoder peaks --threshold 1 --overlay o.png", "--overlay needs heatmaps"),
        ("--decoder median", "'median' is not one of"),
        ("--rule nobody", "'nobody' is not one of"),
    ],
)
def test_what_does_not_fit(
    maps: np.ndarray, options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _cli.run(["decode", "maps.npy", *options.split()]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o.png").exists()
