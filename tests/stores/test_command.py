"""``dark-jax decode`` of stores, and the one line that it prints for bad input."""

import gc
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints
from dark_jax._stores import dask_run
from dark_jax._stores.checkpoint import Checkpoint
from tests.stores.cases import BLOCK, OTHER, assert_same, damaged_chunk, group_of, tree, write_zarr

pytest.importorskip("zarr")
pytest.importorskip("h5py")
pytest.importorskip("dask")
pytest.importorskip("click")

from dark_jax import _cli

parquet = pytest.importorskip("pyarrow.parquet")


def test_everything_at_once(
    stores: Path, maps: np.ndarray, expected_fit: Keypoints, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = np.ascontiguousarray(np.moveaxis(maps, 1, -1))
    write_zarr(stores / "last.zarr", moved, (2, 24, 20, 3))
    target = stores / "out.zarr"
    for extra in ([], ["--overwrite"], ["--resume"]):
        options = ["--axes", "-3,-2", "--decoder", "fit", "--sigma", "2", *extra]
        assert _cli.run(["decode", str(stores / "last.zarr"), "-o", str(target), *options]) == 0
        assert capsys.readouterr() == (f"wrote {target}\n", "")
    assert_same(group_of(target), expected_fit)
    arguments = ["--rule", "vitPose", "--kernel-size", "5", "--key", "heatmaps"]
    source, target = stores / "maps.h5", stores / "out.parquet"
    assert _cli.run(["decode", str(source), "-o", str(target), *arguments]) == 0
    about = parquet.read_table(target).schema.metadata[b"about"]
    assert (json.loads(about)["rule"]["name"], json.loads(about)["kernel_size"]) == ("VITPOSE", 5)


def test_npy_is_a_store_where_it_is_treated_as_one(stores: Path, maps: np.ndarray) -> None:
    source = str(stores / "few.npy")
    np.save(source, maps[:BLOCK])
    assert _cli.run(["decode", source, "-o", str(stores / "one.parquet")]) == 0
    assert (stores / "one.parquet").is_file()
    assert _cli.run(["decode", source, "-o", str(stores / "out.parquet"), "--resume"]) == 0
    assert (stores / "out.parquet").is_dir()
    assert _cli.run(["decode", source, "-o", str(stores / "out.zarr")]) == 0
    assert (stores / "out.zarr").is_dir()


def test_maps_in_memory_take_the_same_options(stores: Path, maps: np.ndarray) -> None:
    few = maps[:BLOCK]
    np.save(stores / "last.npy", np.moveaxis(few, 1, -1))
    for expected, options in (
        (OTHER(few), ["--rule", "VITPOSE", "--kernel-size", "5"]),
        (dark_jax.decode_fit(few, sigma=2.0), ["--decoder", "fit", "--sigma", "2"]),
    ):
        target = stores / "out.npz"
        source = str(stores / "last.npy")
        assert _cli.run(["decode", source, "-o", str(target), "--axes=-3,-2", *options]) == 0
        with np.load(target) as found:
            np.testing.assert_array_equal(found["coords"], expected.coords)


def test_a_row_of_bins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart = np.arange(20) - np.array([[[3.0], [9.5]]])
    np.save(tmp_path / "rows.npy", np.exp(-(apart**2) / (2 * 1.5**2)).astype(np.float32))
    arguments = ["decode", str(tmp_path / "rows.npy"), "--axes", "-1", "--kernel-size", "11"]
    assert _cli.run(arguments) == 0
    out = capsys.readouterr().out
    assert "9.500" in out
    assert "2 of 2 keypoints refined" in out


def test_the_bar(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows the share, the rate and the time left.

    Elsewhere nothing is shown, as the tests above check.
    """
    import io

    stream = io.StringIO()
    stream.isatty = lambda: True  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    arguments = ["decode", str(stores / "maps.npy"), "-o", str(stores / "out.zarr")]
    assert _cli.run(arguments) == 0
    for part in ("100%", "33 of 33 maps", "/s", "0:00:00"):
        assert part in stream.getvalue()


def test_no_bar(
    stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe shows no bar, even if colours are forced, as Jupyter does for its processes."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    arguments = ["decode", str(stores / "maps.npy"), "-o", str(stores / "out.zarr")]
    assert _cli.run(arguments) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("no.zarr: No such file or directory", ["no.zarr", "-o", "o.zarr"]),
        ("SOURCE must be a .npz file, a Zarr", ["folder.zarr", "-o", "o.zarr"]),
        ("SOURCE must be a .npz file, a Zarr directory, an HDF5", ["text.h5", "-o", "o.zarr"]),
        ("cut.h5: not a readable HDF5 file (", ["cut.h5", "-o", "o.zarr"]),
        ("text.npy: not a readable .npy file", ["text.npy", "-o", "o.zarr"]),
        ("fortran.npy is in Fortran order", ["fortran.npy", "-o", "o.zarr"]),
        ("flat.npy must have maps of at least one pixel", ["flat.npy", "-o", "o.zarr"]),
        ("complex.npy must hold real numbers", ["complex.npy", "-o", "o.zarr"]),
        ("row.npy must have axes (-2, -1), got shape (5,)", ["row.npy", "-o", "o.zarr"]),
        ("choose from: leave out --key 'a'", ["maps.npy", "-o", "o.zarr", "--key", "a"]),
        (
            "array.zarr: it is one array, without",
            ["array.zarr", "-o", "o.zarr", "--key", "a"],
        ),
        ("group.zarr: no array 'c'; it has", ["group.zarr", "-o", "o.zarr", "--key", "c"]),
        ("maps.h5: no array 'a'; it has a/b [11, ", ["maps.h5", "-o", "o.zarr", "--key", "a"]),
        ("store: --output must end in .zarr, .parquet", ["array.zarr"]),
        (".parquet, got 'o.csv'", ["array.zarr", "-o", "o.csv"]),
        ("there is no folder", ["array.zarr", "-o", "no/o.zarr"]),
        ("would overwrite what is read", ["array.zarr", "-o", "array.zarr"]),
        ("would overwrite what is read", ["array.zarr", "-o", "array.zarr/o.zarr"]),
        ("dark_jax did not make it", ["maps.npy", "-o", "group.zarr", "--overwrite"]),
        ("dark_jax did not make it", ["maps.npy", "-o", "group.zarr", "--resume"]),
        ("group.zarr exists: dark_jax did not make it", ["maps.npy", "-o", "group.zarr"]),
        ("more axes than [B, I, J]", ["deep.npy", "-o", "o.parquet", "--resume"]),
        ("--axes must be integers", ["maps.npy", "-o", "o.zarr", "--axes", "a,b"]),
        ("must be in increasing order", ["maps.npy", "-o", "o.zarr", "--axes", "-1,-2"]),
        ("must have axes (-7,)", ["maps.npy", "-o", "o.zarr", "--axes", "-7"]),
        ("--decoder fit needs --sigma", ["maps.npy", "-o", "o.zarr", "--decoder", "fit"]),
        (
            "--rule is for --decoder dark, got --decoder fit, which takes --sigma, --radius",
            ["a.zarr", "--decoder", "fit", "--sigma", "1", "--rule", "HRNET"],
        ),
        ("'moment' is not one of 'dark', 'fit',", ["maps.npy", "--decoder", "moment"]),
        ("'SEED' is not", ["maps.npy", "-o", "o.zarr", "--rule", "SEED"]),
        ("HRNET", ["maps.npy", "-o", "o.zarr", "--rule", "HRNET", "--blur-sigma", "2"]),
        ("MMPOSE_SIMCC", ["maps.npy", "-o", "o.zarr", "--rule", "mmpose_simcc_dark"]),
        ("--workers must be an integer of at", ["maps.npy", "-o", "o.zarr", "--workers", "0"]),
        (
            "give --resume or --overwrite, not",
            ["maps.npy", "-o", "o.zarr", "--resume", "--overwrite"],
        ),
        (
            "not both: got --workers 2, --scheduler 'tcp://a:1'",
            ["maps.npy", "-o", "o.zarr", "--workers", "2", "--scheduler", "tcp://a:1"],
        ),
        ("--resume needs a SOURCE that is a store", ["--resume"]),
        ("--workers needs a SOURCE that is a store", ["--workers", "2"]),
        ("give --resume too", ["maps.npy", "-o", "o.zarr", "--accept-changed-source"]),
        (
            "--overlay is for maps that fit",
            ["array.zarr", "-o", "o.zarr", "--overlay", "o.png"],
        ),
    ],
)
def test_one_line_and_nothing_written(
    stores: Path,
    message: str,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (stores / "folder.zarr").mkdir()
    (stores / "text.h5").write_text("hello")
    (stores / "text.npy").write_text("hello")
    (stores / "cut.h5").write_bytes((stores / "maps.h5").read_bytes()[:5000])
    for name, array in {
        "fortran": np.asfortranarray(np.ones((4, 5, 5))),
        "flat": np.ones((5, 0, 5)),
        "complex": np.ones((5, 5), complex),
        "row": np.ones(5),
        "deep": np.ones((1, 1, 1, 2, 5, 5)),
    }.items():
        np.save(stores / f"{name}.npy", array)
    monkeypatch.chdir(stores)
    before = tree(stores)
    assert _cli.run(["decode", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dark-jax: ")
    assert err.count("\n") == 1
    assert message in err
    assert tree(stores) == before
    assert not (stores / "o.zarr.incomplete").exists()


def test_what_cannot_be_read_is_named(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged_chunk(stores, "array.zarr")
    (stores / "array.zarr" / "c" / "4" / "0" / "0" / "0").write_bytes(b"")
    arguments = ["decode", str(stores / "array.zarr"), "-o", str(stores / "out.zarr")]
    assert _cli.run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    first, second, kept = err.splitlines()
    assert first.startswith(f"dark-jax: {stores / 'array.zarr'}: chunk (1, 2, 0, 0): ")
    assert second.startswith(f"dark-jax: {stores / 'array.zarr'}: chunk (4, 0, 0, 0): ")
    assert kept == (
        f"dark-jax: the other results are in {stores / 'out.zarr.incomplete' / 'result'}; repair "
        "the chunks, then continue with --resume"
    )


def test_in_a_thread(stores: Path) -> None:
    """The command also works in a thread, although only the main thread can handle signals."""
    arguments = ["decode", str(stores / "maps.npy"), "-o", str(stores / "out.zarr")]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_cli.run, arguments).result() == 0


def test_an_interrupt_that_python_loses(
    stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python loses a KeyboardInterrupt in a callback of the garbage collector.

    The run still stops after its block.
    """
    target = stores / "out.zarr"
    commit, done = Checkpoint.commit, []

    def press(phase: str, info: dict[str, int]) -> None:
        if len(done) == 2:
            done.append("pressed")
            signal.raise_signal(signal.SIGINT)

    def committed(self: Checkpoint, index: Any, *others: Any) -> None:
        commit(self, index, *others)
        done.append(index)

    # All blocks run in the main thread, because Python handles signals only there.
    monkeypatch.setattr(
        dask_run,
        "each",
        lambda pool, work, blocks, tell: [(tell(work(index)), gc.collect()) for index in blocks],
    )
    monkeypatch.setattr(Checkpoint, "commit", committed)
    monkeypatch.setattr(sys, "unraisablehook", lambda error: None)
    # A process in the background of a shell ignores Ctrl-C, so this sets the default.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.callbacks.append(press)
    try:
        assert _cli.run(["decode", str(stores / "maps.npy"), "-o", str(target)]) == 130
    finally:
        gc.callbacks.remove(press)
        left = signal.signal(signal.SIGINT, ours)
    assert left is signal.default_int_handler
    assert capsys.readouterr().err == "dark-jax: interrupted; continue with --resume\n"
    assert not target.exists()
    assert _cli.run(["decode", str(stores / "maps.npy"), "-o", str(target), "--resume"]) == 0
