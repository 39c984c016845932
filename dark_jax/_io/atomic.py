"""Heatmaps from files; files that are written whole or not at all."""

import json
import os
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dark_jax._core import checks


def read_heatmaps(
    path: Path, *, key: str | None = None, axes: tuple[int, ...] = (-2, -1)
) -> np.ndarray:
    """``[H, W]``, ``[J, H, W]`` or ``[B, J, H, W]`` heatmaps of a ``.npy`` or ``.npz`` file.

    Maps laid out along other ``axes`` are moved there.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what its suffix says, ``key`` does not choose one of its
            arrays, or the array has another rank or is empty.
        TypeError: the array does not hold real numbers.
    """
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path}: heatmaps are read from .npy or .npz, not {path.suffix!r}")
    if key is not None and path.suffix == ".npy":
        raise ValueError(f"{path}: a .npy file has no keys to choose {key!r} from")
    with path.open("rb") as stream:
        try:
            loaded = np.load(stream, allow_pickle=False)
            array = loaded[choose(path, loaded.files, key)] if path.suffix == ".npz" else loaded
        except _UnclearKeyError:
            raise
        except Exception as error:  # a broken file breaks zip, zlib, tokenizer or memory
            # What NumPy does not know it takes for pickled objects.
            reason = "no array of numbers in it" if "pickle" in str(error) else error
            raise ValueError(f"{path}: not a readable {path.suffix} file ({reason})") from error
    checks.real_array(f"{path}: heatmaps", array)
    if not 0 <= array.ndim - len(axes) <= 2:
        layouts = "shape [H, W], [J, H, W] or [B, J, H, W]"
        expected = layouts if axes == (-2, -1) else f"axes {axes} and at most two more"
        raise ValueError(f"{path}: heatmaps must have {expected}, got {array.shape}")
    if array.size == 0:
        raise ValueError(f"{path}: heatmaps are empty, shape {array.shape}")
    found = checks.axes_of(f"{path}: heatmaps", array.shape, axes)
    return np.moveaxis(array, found, range(-len(found), 0))


class _UnclearKeyError(ValueError):
    """The file is readable, but which of its arrays is meant is not known."""


def choose(path: Path, names: list[str], key: str | None) -> str:
    """The array that ``key`` names: "heatmaps" or the only one, if it is None."""
    if key is None:
        key = "heatmaps" if "heatmaps" in names or len(names) != 1 else names[0]
        problem = "choose one of its arrays with --key"
    else:
        problem = f"no array {key!r}"
    if key not in names:
        raise _UnclearKeyError(f"{path}: {problem}; it has {', '.join(names) or 'none'}")
    return key


def json_bytes(value: Any) -> bytes:
    """The contents of a JSON file, in which no number may be NaN or infinite."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def check_target(
    path: Path, *, suffixes: tuple[str, ...], option: str, folder_too: bool = False
) -> None:
    """ValueError or OSError unless a file of one of ``suffixes`` can be written at ``path``.

    Nor may a folder be there, unless ``folder_too``.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"{option} must end in {', '.join(suffixes)}, got {str(path)!r}")
    if path.is_dir() and not folder_too:
        raise IsADirectoryError(f"{option} {path} is a directory")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {folder}")
    # A folder that is there is replaced, or complete: nothing is written into it.
    beneath = folder if path.is_dir() or not path.exists() else path
    if not (os.access(folder, os.W_OK) and os.access(beneath, os.W_OK)):
        raise PermissionError(f"{option} {path} cannot be written")


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write all files or none: each beside its target first, then renamed."""
    beside: dict[str, Path] = {}
    path = None
    try:
        for path, data in contents.items():
            target = path.resolve()  # a link's target is replaced, not the link
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            beside[name] = target
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        for name, path in beside.items():
            os.replace(name, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from error
    finally:
        for name in beside:
            with suppress(OSError):  # gone where it was renamed
                os.unlink(name)


def write_aside(path: Path, contents: bytes, *, spare: Path) -> None:
    """Write a file whole or not at all: in ``spare``, of the same file system, then renamed."""
    aside = spare / uuid.uuid4().hex
    aside.write_bytes(contents)
    os.replace(aside, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
