"""Heatmaps from ``.npy`` and ``.npz`` files."""

from pathlib import Path

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
            array = (
                loaded[choose_array(path, loaded.files, key)] if path.suffix == ".npz" else loaded
            )
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


def choose_array(path: Path, names: list[str], key: str | None) -> str:
    """The array that ``key`` names: "heatmaps" or the only one, if it is None."""
    if key is None:
        key = "heatmaps" if "heatmaps" in names or len(names) != 1 else names[0]
        problem = "choose one of its arrays with --key"
    else:
        problem = f"no array {key!r}"
    if key not in names:
        raise _UnclearKeyError(f"{path}: {problem}; it has {', '.join(names) or 'none'}")
    return key
