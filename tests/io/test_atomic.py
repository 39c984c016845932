"""Which paths can be written and which must not be, for every function that writes files."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import coco
from tests.support.by_hand import keypoints_of

pytest.importorskip("flatbuffers")
pytest.importorskip("pyarrow")

from dark_jax import export

ONE = keypoints_of(np.zeros((1, 1, 2)), np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1, 2, 2)))

FORMATS = ("csv", "json", "npz", "parquet")
WRITERS: dict[str, Callable[[Any], None]] = {
    **{f"save.{kind}": lambda path: dark_jax.save(ONE, path) for kind in FORMATS},
    "coco.json": lambda path: coco.save([{"score": 0.5}], path),
    "export.zip": lambda path: export.save(ARTEFACT, path),
}
ARTEFACT = export.export_function(jnp.abs, np.zeros(2, np.float32), platforms=("cpu",))


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> tuple[Callable[[Any], None], str]:
    """A function that writes a file, and the suffix that the file must have."""
    return WRITERS[request.param], Path(request.param).suffix


def test_special_files_are_left_alone(
    tmp_path: Path, writer: tuple[Callable[[Any], None], str]
) -> None:
    """A link to /dev/null and a pipe are left unchanged."""
    write, suffix = writer
    (tmp_path / f"null{suffix}").symlink_to(os.devnull)
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    for name, message in {
        "null": "is not a file but a device",
        "pipe": "is not a file but a",
    }.items():
        with pytest.raises(FileExistsError, match=rf"path .*{name}\{suffix} {message}"):
            write(tmp_path / f"{name}{suffix}")
    with pytest.raises(IsADirectoryError, match=r"path .* is a directory"):
        write(tmp_path / f"folder{suffix}")
    assert (tmp_path / f"null{suffix}").is_symlink()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert stat.S_ISFIFO((tmp_path / f"pipe{suffix}").stat().st_mode)
    assert len([*tmp_path.iterdir()]) == 3


def test_names_of_any_length(tmp_path: Path, writer: tuple[Callable[[Any], None], str]) -> None:
    """A name may be as long as the file system allows. The error about a longer one states it."""
    write, suffix = writer
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    for length in (longest - 6, longest):
        target = tmp_path / ("n" * (length - len(suffix)) + suffix)
        write(target)
        assert target.stat().st_size > 0
    with pytest.raises(OSError, match=r"cannot be written \(File name too long\).*nnn"):
        write(tmp_path / ("n" * longest + suffix))
    assert len([*tmp_path.iterdir()]) == 2


def test_paths_that_lead_nowhere(tmp_path: Path, writer: tuple[Callable[[Any], None], str]) -> None:
    write, suffix = writer
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    (tmp_path / "text").write_text("no folder")
    for name, message in {
        f"loop{suffix}": "cannot be written .*symbolic links",
        f"text/out{suffix}": "cannot be written .*Not a directory",
        f"none/out{suffix}": "path .*: there is no folder",
    }.items():
        with pytest.raises(OSError, match=message):
            write(tmp_path / name)
    for path in (None, 5, ["out"]):
        with pytest.raises(TypeError, match="path must be a path, got"):
            write(path)
    with pytest.raises(ValueError, match="path must be a path, without a NUL"):
        write(f"out\0{suffix}")


def test_a_pipe_is_no_photo_and_no_target_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("click")
    from dark_jax import _cli

    os.mkfifo(tmp_path / "out.csv")
    os.mkfifo(tmp_path / "out.png")
    for option, name in (("--output", "out.csv"), ("--overlay", "out.png")):
        assert _cli.run(["decode", option, str(tmp_path / name)]) == 2
        assert capsys.readouterr().err == (
            f"dark-jax: {option} {tmp_path / name} is not a file but a device, a pipe or a "
            "socket: choose another path\n"
        )
