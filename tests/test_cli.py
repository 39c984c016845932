"""The command, as a user calls it."""

import csv
import json
import os
import stat
from pathlib import Path

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import rules
from tests.support import synthetic

pytest.importorskip("click")
pytest.importorskip("matplotlib")

from dark_jax import _cli, _terminal


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    values, _ = synthetic.gaussians(0, 6, (24, 20), sigma=2.0)
    np.save(tmp_path / "maps.npy", values.reshape(2, 3, 24, 20))
    return tmp_path / "maps.npy"


def run(*arguments: object) -> int:
    return _cli.run(["decode", *map(str, arguments)])


def fails(capsys: pytest.CaptureFixture[str], message: str, *arguments: object) -> None:
    """Assert exit status 2, one line on stderr and nothing on stdout."""
    capsys.readouterr()
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dark-jax: ")
    assert err.count("\n") == 1
    assert message in err


def test_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("nose", "left ear", "REFINED", "BORDER", "11 of 18 keypoints refined"):
        assert word in out


@pytest.mark.parametrize("options", [(), ("--kernel-size", 7), ("--blur-sigma", 1.5)])
def test_results_read_back(maps: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    parameters = {str(options[0])[2:].replace("-", "_"): options[1]} if options else {}
    decoded = dark_jax.decode(np.load(maps), **parameters)  # pyright: ignore[reportArgumentType]
    expected = jax.device_get(decoded)
    for suffix in ("csv", "json", "npz"):
        assert run(maps, "-o", tmp_path / f"out.{suffix}", *options) == 0

    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["coords"], expected.coords)
        np.testing.assert_array_equal(arrays["scores"], expected.scores)
        assert arrays["status"].shape == (2, 3)
        about = json.loads(str(arrays["about"]))
    made = {"source": str(maps), "dark_jax": dark_jax.__version__, "decoder": "decode"}
    written = json.loads((tmp_path / "out.json").read_text())
    rule = about["rule"]
    assert (rule["name"], rule["floor"], len(rule)) == ("GUARDED", 1e-10, len(vars(rules.GUARDED)))
    made |= {"rule": rule, "kernel_size": None, "blur_sigma": None, "covariance": False}
    assert about == made | {"axes": [-2, -1]} | (parameters or {"kernel_size": 5})
    assert written.keys() == {"about", "keypoints"}
    assert written["about"] == about
    with (tmp_path / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for number, (image, joint) in enumerate(np.ndindex(2, 3)):
        for row in (rows[number], written["keypoints"][number]):
            assert (int(row["image"]), int(row["joint"])) == (image, joint)
            # The files hold the shortest decimal that reads back as the same float32.
            found = np.array([row["x"], row["y"], row["score"]], dtype=np.float32)
            np.testing.assert_array_equal(found[:2], expected.coords[image, joint])
            assert found[2] == expected.scores[image, joint]
            assert row["status"] == dark_jax.Status(int(expected.status[image, joint])).name


def test_parquet(maps: Path, tmp_path: Path) -> None:
    """The rows are those of a CSV file. The metadata says how they were made."""
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in ("csv", "parquet"):
        assert run(maps, "-o", tmp_path / f"out.{suffix}", "--kernel-size", 7) == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    with (tmp_path / "out.csv").open() as stream:
        for written, row in zip(csv.DictReader(stream), table.to_pylist(), strict=True):
            assert list(written) == list(row)
            for name, text in written.items():
                value = row[name]
                if isinstance(value, float):
                    assert np.float32(text) == np.float32(value)
                else:
                    assert text == ("" if value is None else str(value))
    assert json.loads(table.schema.metadata[b"about"])["kernel_size"] == 7


def test_nan_is_null_in_json(tmp_path: Path) -> None:
    np.save(tmp_path / "nan.npy", np.full((24, 20), np.nan, np.float32))
    assert run(tmp_path / "nan.npy", "-o", tmp_path / "out.json") == 0
    row = json.loads((tmp_path / "out.json").read_text())["keypoints"][0]
    assert (row["x"], row["score"], row["status"]) == (None, None, "NOT_FINITE")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((24, 20), "float32"),
        ((3, 24, 20), "float64"),
        ((2, 3, 24, 20), "float16"),
        ((2, 3, 24, 20), "uint8"),
    ],
)
def test_ranks_and_types(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Each rank and each type is tried once, because they are independent of each other."""
    values = np.zeros((6, 24, 20)) + synthetic.gaussians(0, 6, (24, 20), sigma=2.0)[0]
    count = int(np.prod(shape[:-2]))
    np.save(tmp_path / "maps.npy", (200 * values[:count]).reshape(shape).astype(dtype))
    assert run(tmp_path / "maps.npy", "-o", tmp_path / "out.npz") == 0
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["coords"].shape == (*shape[:-2], 2)


def test_choice_of_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bump = synthetic.gaussians(0, 1, (24, 20), sigma=2.0)[0]
    np.savez(tmp_path / "one.npz", anything=bump)
    np.savez(tmp_path / "named.npz", heatmaps=bump, image=np.zeros((3, 3, 3, 3, 3)))
    np.savez(tmp_path / "two.npz", a=bump, b=bump)
    assert run(tmp_path / "one.npz") == 0
    assert run(tmp_path / "named.npz") == 0
    assert run(tmp_path / "two.npz", "--key", "b") == 0
    both = "it has a [1, 24, 20] float32, b [1, 24, 20] float32"
    fails(capsys, f"choose one of its arrays, such as --key 'a'; {both}", tmp_path / "two.npz")
    fails(capsys, f"no array 'c'; {both}", tmp_path / "two.npz", "--key", "c")


def test_overlays(maps: Path, tmp_path: Path) -> None:
    from PIL import Image

    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.full((97, 80, 3), 128, np.uint8)).save(photo)
    np.save(tmp_path / "one.npy", np.load(maps)[0])
    for source in ((), (maps,), (tmp_path / "one.npy", "--image", photo, "--stride", 4)):
        target = tmp_path / "overlay.png"
        assert run(*source, "--overlay", target) == 0
        with Image.open(target) as picture:
            assert picture.format == "PNG"
            colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert (np.abs(colours.astype(int) - [0, 229, 255]).max(axis=1) < 8).sum() > 50  # DARK
        target.unlink()


class TestBadInput:
    def test_sources(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def written(name: str, array: np.ndarray) -> Path:
            np.save(tmp_path / name, array, allow_pickle=True)
            return tmp_path / name

        (tmp_path / "text.npy").write_text("hello")
        (tmp_path / "text.npz").write_text("hello")
        (tmp_path / "empty.npz").write_bytes(b"")
        np.savez(tmp_path / "cut.npz", heatmaps=np.ones((9, 9)))
        whole = (tmp_path / "cut.npz").read_bytes()
        (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "folder.npy").mkdir()
        (tmp_path / "maps.txt").write_text("1 2 3")
        for message, source in {
            "nothing.txt: No such file or directory": tmp_path / "nothing.txt",
            "No such file or directory": tmp_path / "missing.npy",
            "HDF5 file or a .npy file, got": tmp_path / "folder.npy",
            "text.npy: not a readable .npy file (no array of numbers in it)": tmp_path / "text.npy",
            "text.npz: not a readable .npz file": tmp_path / "text.npz",
            "empty.npz: not a readable .npz file": tmp_path / "empty.npz",
            "cut.npz: not a readable .npz file": tmp_path / "cut.npz",
            "SOURCE must be a .npz file, a Zarr directory, an HDF5": tmp_path / "maps.txt",
            "must have shape [H, W], [J, H, W], [B, J, H, W] or [B, I, J, H, W], got (5,)": written(
                "r1.npy", np.ones(5)
            ),
            "got (1, 1, 1, 1, 5, 5)": written("r6.npy", np.ones((1, 1, 1, 1, 5, 5))),
            "must hold real numbers of at most 64 bits, got dtype complex128": written(
                "complex.npy", np.ones((5, 5), complex)
            ),
            "object.npy: not a readable .npy file (no array of": written(
                "object.npy", np.full((5, 5), None)
            ),
            "must have maps of at least one pixel, got shape (5, 0)": written(
                "flat.npy", np.ones((5, 0))
            ),
        }.items():
            before = sorted(tmp_path.iterdir())
            fails(capsys, message, source, "-o", tmp_path / "out.csv")
            assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        ("message", "options"),
        [
            ("--kernel-size must be an odd integer of at least 1, got 4", ["--kernel-size", 4]),
            ("--kernel-size must be an odd integer of at least 1, got -3", ["--kernel-size", -3]),
            ("'x' is not a valid integer", ["--kernel-size", "x"]),
            ("--blur-sigma must be a positive, finite number", ["--blur-sigma", 0]),
            (
                "give --kernel-size or --blur-sigma, not both",
                ["--blur-sigma", 1, "--kernel-size", 3],
            ),
            ("No such option", ["--no-such-option"]),
            ("--output must end in .csv, .json, .npz, .parquet, got", ["-o", "out.xlsx"]),
            ("--overlay must end in .png, got", ["--overlay", "out.gif"]),
            ("there is no folder", ["-o", "nowhere/out.csv"]),
            ("there is no folder", ["--overlay", "nowhere/out.png"]),
            ("--image and --stride go together", ["--image", "a.png"]),
            ("--image is for an --overlay", ["--image", "a.png", "--stride", 4]),
            ("--stride must be a positive", ["--image", "a", "--stride", 0, "--overlay", "a.png"]),
            ("leave out --key 'heatmaps'", ["--key", "heatmaps"]),
        ],
    )
    def test_options(
        self,
        maps: Path,
        message: str,
        options: list[object],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(maps.parent)
        fails(capsys, message, maps, *options)
        assert [path.name for path in maps.parent.iterdir()] == [maps.name]

    @pytest.mark.parametrize("option", ["--image", "--stride", "--key"])
    def test_the_sample_brings_its_own(
        self, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fails(capsys, f"{option} needs a SOURCE", option, 1)

    def test_photos(self, maps: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = maps.parent
        np.save(folder / "one.npy", np.load(maps)[0])
        (folder / "not.png").write_text("no picture")
        from PIL import Image

        Image.fromarray(np.zeros((50, 50), np.uint8)).save(folder / "small.png")
        options = ["--stride", 4, "--overlay", folder / "out.png"]
        for message, source, photo in (
            ("shows one image, but the heatmaps are of 2", maps, "small.png"),
            ("No such file", folder / "one.npy", "missing.png"),
            ("not a readable picture", folder / "one.npy", "not.png"),
            (
                "is 50 x 50, but heatmaps of 20 x 24 at stride 4 cover 80 x 96",
                folder / "one.npy",
                "small.png",
            ),
        ):
            fails(capsys, message, source, "--image", folder / photo, *options)
            assert not (folder / "out.png").exists()

    def test_broken_archives(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """An error of zip, zlib, NumPy's header or memory about a damaged file is one line."""
        np.savez_compressed(tmp_path / "maps.npz", heatmaps=np.random.default_rng(0).random((9, 9)))
        whole = (tmp_path / "maps.npz").read_bytes()
        for place in range(30, len(whole), 37):
            damaged = bytearray(whole)
            damaged[place] ^= 0xFF
            (tmp_path / "damaged.npz").write_bytes(damaged)
            assert run(tmp_path / "damaged.npz") in (0, 2)
            assert capsys.readouterr().err.count("\n") <= 1
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
        start = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
        (tmp_path / "huge.npy").write_bytes(start + header.ljust(117) + b"\n")
        fails(capsys, "huge.npy: not a readable .npy file", tmp_path / "huge.npy")

    def test_photo_is_not_overwritten(self, maps: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.save(maps.parent / "one.npy", np.load(maps)[0])
        photo = maps.parent / "photo.png"
        photo.write_bytes(b"precious")
        options = ["--image", photo, "--stride", 4, "--overlay", photo]
        fails(capsys, "would overwrite what is read", maps.parent / "one.npy", *options)
        assert photo.read_bytes() == b"precious"


class TestTargets:
    def test_a_good_file_is_replaced_whole_or_not_at_all(
        self, maps: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A failure while writing leaves the old file and its mode, and no other file."""
        target = maps.parent / "out.csv"
        target.write_text("precious")
        target.chmod(0o640)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            fails(capsys, "out.csv: cannot be written (No space left", maps, "-o", target)
        assert target.read_text() == "precious"
        assert sorted(path.name for path in maps.parent.iterdir()) == ["maps.npy", "out.csv"]
        assert run(maps, "-o", target) == 0
        assert target.read_text().startswith("image,instance,joint,name,x,y,score,status,moved\n")
        assert stat.S_IMODE(target.stat().st_mode) == 0o640

    def test_results_are_not_written_without_the_overlay(
        self, maps: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = maps.parent
        (folder / "taken.png").mkdir()
        fails(
            capsys,
            "is a directory",
            maps,
            "-o",
            folder / "out.csv",
            "--overlay",
            folder / "taken.png",
        )
        assert not (folder / "out.csv").exists()

    def test_links_are_followed(self, maps: Path) -> None:
        target = maps.parent / "real.json"
        target.write_text("{}")
        (maps.parent / "link.json").symlink_to(target)
        assert run(maps, "-o", maps.parent / "link.json") == 0
        assert (maps.parent / "link.json").is_symlink()
        assert len(json.loads(target.read_text())["keypoints"]) == 6

    def test_source_is_not_overwritten(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.savez(tmp_path / "maps.npz", heatmaps=np.ones((5, 5)))
        fails(
            capsys,
            "would overwrite what is read from it",
            tmp_path / "maps.npz",
            "-o",
            tmp_path / "maps.npz",
        )


def test_nothing_asked_is_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["dark-jax"])
    assert _cli.run() == 0
    assert "Usage: dark-jax [OPTIONS] COMMAND" in capsys.readouterr().out


def test_narrow_terminals_lose_no_digit(
    maps: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert run(maps) == 0
    assert "\N{HORIZONTAL ELLIPSIS}" not in capsys.readouterr().out


def test_long_tables_are_cut(
    maps: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _terminal.MOST_ROWS == 100
    monkeypatch.setattr(_terminal, "MOST_ROWS", 4)
    assert run(maps) == 0
    out = capsys.readouterr().out
    assert out.count("REFINED") == 4
    assert "... and 2 more; -o writes them all" in out


def test_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from dark_jax import __main__

    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(SystemExit) as exit_info:
        __main__.main()
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == (
        'dark-jax: rich is not installed: pip install "dark_jax[cli]"\n'
    )
