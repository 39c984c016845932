"""What the command prints beside the results, and the names that its messages use."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.support import synthetic

pytest.importorskip("click")
pytest.importorskip("zarr")
pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

from dark_jax import _cli


@pytest.fixture
def maps() -> np.ndarray:
    """``[2, 3, 24, 20]``."""
    values, _ = synthetic.gaussians(0, 6, (24, 20), sigma=2.0)
    return values.reshape(2, 3, 24, 20)


@pytest.fixture
def folder(tmp_path: Path, maps: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("maps.npy", maps)
    np.savez("own.npz", heatmaps=maps)
    return tmp_path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that ends with status 2."""
    capsys.readouterr()
    assert _cli.run(["decode", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("dark-jax: ").removesuffix("\n")


class TestLayout:
    """If most keypoints are lost, the maps may have other axes, or may not be maps at all."""

    @pytest.fixture
    def edges(self, folder: Path) -> np.ndarray:
        """``[4, 24, 20, 3]``, channels last. In maps of 20 x 3, every peak is at a border."""
        maps = np.random.default_rng(0).uniform(0.1, 1, (4, 24, 20, 3)).astype(np.float32)
        np.save("last.npy", maps)
        return maps

    @pytest.mark.parametrize(
        "arguments",
        [(), ("-o", "out.csv"), ("-o", "out.zarr"), ("-o", "out.parquet", "--resume")],
    )
    def test_it_is_said(
        self, edges: np.ndarray, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Maps in memory and in a store give the message, for either kind of results.

        The exit status is 0.
        """
        status = np.asarray(dark_jax.decode(edges).status)
        lost = np.isin(status, (Status.BORDER, Status.NO_PEAK)).sum()
        assert lost > 48
        assert _cli.run(["decode", "last.npy", *arguments]) == 0
        assert capsys.readouterr().err == (
            f"dark-jax: {lost} of 96 keypoints are BORDER or NO_PEAK: shape (4, 24, 20, 3) was "
            "read as 96 maps of 20 x 3; if the maps lie along other axes, name them with --axes, "
            "such as -3,-2 for channels last\n"
        )

    @pytest.mark.parametrize("name", ["maps.npy", "half.npy", "none.npy"])
    @pytest.mark.parametrize("output", ["out.csv", "out.zarr"])
    def test_else_nothing(
        self,
        folder: Path,
        maps: np.ndarray,
        name: str,
        output: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        half = maps.copy()
        half[0] = 0
        np.save("half.npy", half)
        np.save("most.npy", half.reshape(6, 24, 20)[:5])
        np.save("none.npy", maps[:0])
        assert _cli.run(["decode", name, "-o", output]) == 0
        assert capsys.readouterr().err == ""
        assert _cli.run(["decode", "most.npy", "-o", f"most{Path(output).suffix}"]) == 0
        assert "3 of 5 keypoints are BORDER or NO_PEAK" in capsys.readouterr().err

    def test_the_shape_is_the_file_s(
        self, edges: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The message states the shape of the file, for any axes and any reader."""
        for options in ((), ("-o", "out.zarr")):
            assert _cli.run(["decode", "last.npy", "--axes", "1,-1", *options]) == 0
            assert "shape (4, 24, 20, 3) was read as 80 maps of 24 x 3;" in capsys.readouterr().err

    def test_logits(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The logits are above zero at their peaks, and below zero around them."""
        logits = 20 * np.load("maps.npy") - 19
        np.save("logits.npy", logits)
        for options in ((), ("-o", "out.zarr")):
            assert _cli.run(["decode", "logits.npy", *options]) == 0
            assert capsys.readouterr().err == (
                "dark-jax: 5 of 6 keypoints are NOT_CONCAVE: if the maps are logits, apply a "
                "sigmoid first\n"
            )


class TestInstances:
    """Maps ``[B, I, J, H, W]`` in memory and in stores."""

    @pytest.mark.parametrize("options", [(), ("--workers", "1")])
    def test_one_table(self, folder: Path, maps: np.ndarray, options: tuple[str, ...]) -> None:
        np.save("instances.npy", maps[:, None].repeat(2, axis=1))
        assert _cli.run(["decode", "instances.npy", "-o", "out.parquet", *options]) == 0
        from pyarrow import parquet

        rows = parquet.read_table("out.parquet").to_pylist()
        found = [(row["image"], row["instance"], row["joint"]) for row in rows]
        assert found == [*np.ndindex(2, 2, 3)]
        expected = dark_jax.decode(maps)
        scores = [row["score"] for row in rows if row["instance"] == 1]
        assert scores == np.ravel(expected.scores).tolist()

    def test_they_are_shown(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.save("instances.npy", np.load("maps.npy")[None].repeat(2, axis=0))
        assert _cli.run(["decode", "instances.npy", "-o", "out.npz"]) == 0
        assert "instance" in capsys.readouterr().out
        with np.load("out.npz") as arrays:
            assert arrays["coords"].shape == (2, 2, 3, 2)
            assert arrays["dims"].tolist() == ["image", "instance", "joint"]
        message = error_of(capsys, "instances.npy", "--overlay", "out.png")
        assert message.endswith("got 2 axes of a map, 3 others")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["own.npz", "--resume"],
            "--resume needs a SOURCE that is a store: a Zarr directory, an HDF5 file or a .npy "
            "file, got own.npz",
        ),
        (
            ["own.npz", "-o", "out.zarr"],
            "--output must end in .csv, .json, .npz, .parquet where SOURCE is a .npz file, got "
            "'out.zarr'; save the array as .npy for a .zarr",
        ),
        (
            ["x.pkl"],
            "SOURCE must be a .npz file, a Zarr directory, an HDF5 file or a .npy file, got x.pkl",
        ),
        (
            ["renamed.npy"],
            "renamed.npy: not a readable .npy file (it is a .npz file, to be renamed)",
        ),
        (
            ["renamed.npz"],
            "renamed.npz: not a readable .npz file (it is a .npy file, to be renamed)",
        ),
        (
            ["maps.npy", "--workers", "0", "-o", "o.zarr"],
            "--workers must be an integer of at least 1, got 0",
        ),
        (
            ["maps.npy", "--scheduler", "", "-o", "o.zarr"],
            "--scheduler must be an address, such as 'tcp://host:8786', got ''",
        ),
        (
            ["maps.npy", "--resume", "--overwrite", "-o", "o.zarr"],
            "give --resume or --overwrite, not both: got --resume, --overwrite",
        ),
        (
            ["maps.npy", "--accept-changed-source", "-o", "o.zarr"],
            "--accept-changed-source is only for what is resumed: give --resume too",
        ),
        (
            ["maps.npy", "--kernel-size", "4"],
            "--kernel-size must be an odd integer of at least 1, got 4",
        ),
        (
            ["maps.npy", "--blur-sigma", "1e300"],
            "--blur-sigma must be a number that float32 can hold, got 1e+300",
        ),
        (
            ["overwrite=True.npy"],
            "overwrite=True.npy: No such file or directory",
        ),
        (["key x.npy"], "key x.npy: No such file or directory"),
        (["d key=2.npy", "--key", "a"], "d key=2.npy: No such file or directory"),
        (
            ["fit d.npy"],
            "fit d.npy: heatmaps must have shape [H, W], [J, H, W], [B, J, H, W] or "
            "[B, I, J, H, W], got (3,)",
        ),
        (
            ["maps.npy", "--rule", "HRNET", "--blur-sigma", "2"],
            "rule HRNET does not blur: leave out --blur-sigma 2.0",
        ),
        (["a  key=3.npy"], "a  key=3.npy: No such file or directory"),
        (["a\nb.npy"], "a b.npy: No such file or directory"),
    ],
)
def test_words_are_the_command_s(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages name the command's options, not Python's arguments, and paths as they were given."""
    np.save("fit d.npy", np.ones(3))
    Path("x.pkl").write_bytes(b"\x80\x04.")
    Path("renamed.npy").write_bytes(Path("own.npz").read_bytes())
    Path("renamed.npz").write_bytes(Path("maps.npy").read_bytes())
    assert error_of(capsys, *arguments) == message


def test_python_s_words_are_python_s(folder: Path, maps: np.ndarray) -> None:
    """Messages in Python do not name options of the command."""
    np.savez("two.npz", a=maps, b=maps)
    for call in (
        lambda: dark_jax.decode_store("two.npz", "o.zarr"),
        lambda: dark_jax.decode_store("maps.npy", "o.csv"),
        lambda: dark_jax.decode_store("maps.npy", "o.zarr", workers=0),
        lambda: dark_jax.decode_store("maps.npy", "o.zarr", resume=True, overwrite=True),
        lambda: dark_jax.decode_store("maps.npy", "o.zarr", accept_changed_source=True),
    ):
        with pytest.raises(ValueError, match=r"^[^-]*(?:-[^-]+)*$"):  # no "--"
            call()


def run_in_shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m dark_jax decode"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        ["bash", "-c", script.format(command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_ends(folder: Path) -> None:
    """A reader that stops early is not a failure. A full disk is one, and the error says where."""
    found = run_in_shell(folder, "set -o pipefail; {} maps.npy -o a.csv | true")
    assert (found.returncode, found.stderr) == (0, "")
    found = run_in_shell(folder, "{} maps.npy -o b.csv > /dev/full")
    assert found.returncode == 2
    assert found.stderr == "dark-jax: standard output: No space left on device\n"
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
