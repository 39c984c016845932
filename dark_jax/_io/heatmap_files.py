"""Read heatmaps from ``.npy`` and ``.npz`` files, and choose one array among several."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dark_jax._core import checks
from dark_jax._io.tables import USUAL_DIMS

# An error message lists at most this many arrays.
MOST_LISTED = 20
# The axes in USUAL_DIMS, each followed by the axes of a map.
LAYOUTS = "[H, W], [J, H, W], [B, J, H, W] or [B, I, J, H, W]"
# The error message for a path and a key, where the file holds a single array.
ONE_ARRAY = "{}: it is one array, without names to choose from: leave out key={!r}"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # 3.0 is 2.0 in UTF-8: only names of fields differ, and arrays of numbers have no fields.
    (3, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """The description of an array in the header of a ``.npy`` file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


class Member(NamedTuple):
    """The description of one array in a file; ``shape`` is None if the array is null."""

    name: str
    shape: tuple[int, ...] | None
    dtype: np.dtype

    def __str__(self) -> str:
        shape = "null" if self.shape is None else [*self.shape]
        return f"{self.name} {shape} {self.dtype}"


def read_header(stream: Any) -> Header:
    """Read the header of a ``.npy`` file; the values begin where it ends.

    Raises:
        ValueError: the stream is not a ``.npy`` file.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"its format {version} is unknown")
    return Header(*_HEADERS[version](stream))


def read_heatmaps(
    path: Path, *, key: str | None = None, axes: tuple[int, ...] = (-2, -1)
) -> np.ndarray:
    """Read heatmaps ``[..., H, W]`` of a ``.npy`` or ``.npz`` file, with up to three other axes.

    The ``axes`` of a map are moved to the end.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not what its suffix says, ``key`` does not choose one of its
            arrays, or the array has a wrong number of axes or no pixel.
        TypeError: the array does not hold real numbers.
    """
    if key is not None and path.suffix == ".npy":
        raise ValueError(ONE_ARRAY.format(path, key))
    with path.open("rb") as stream:
        array = _loaded(path, stream)
        kind = ".npy" if isinstance(array, np.ndarray) else ".npz"
        if kind != path.suffix:
            raise _unreadable(path, f"it is a {kind} file, to be renamed")
        if not isinstance(array, np.ndarray):
            array = _member(path, array, key, len(axes))
    checks.real_array(f"{path}: heatmaps", array)
    if not 0 <= array.ndim - len(axes) < len(USUAL_DIMS):
        most = len(USUAL_DIMS) - 1
        expected = (
            f"shape {LAYOUTS}" if axes == (-2, -1) else f"axes {axes} and at most {most} more"
        )
        raise ValueError(f"{path}: heatmaps must have {expected}, got {array.shape}")
    found = checks.axes_of(f"{path}: heatmaps", array.shape, axes)
    checks.map_sides(f"{path}: heatmaps", array.shape, found)
    return np.moveaxis(array, found, range(-len(found), 0))


def _loaded(path: Path, stream: BinaryIO) -> Any:
    """Load with NumPy; an archive closes when the stream is closed."""
    try:
        return np.load(stream, allow_pickle=False)
    except Exception as error:  # from zip, zlib, the tokenizer or memory
        raise _unreadable(path, error) from error


def _member(path: Path, archive: Any, key: str | None, dim: int) -> np.ndarray:
    """Return the array of an ``.npz`` file that ``key`` chooses."""

    def get(name: str) -> np.ndarray | None:
        try:
            found = archive[name] if name in archive.files else None
        except Exception as error:
            raise _unreadable(path, error) from error
        return found if isinstance(found, np.ndarray) else None  # bytes, if it is not an array

    def members() -> Iterable[Member]:
        for name in archive.files:
            try:
                with archive.zip.open(f"{name}.npy") as member:
                    header = read_header(member)
            except Exception:  # not an array, or damaged: an error only if asked for
                continue
            yield Member(name, header.shape, header.dtype)

    return choose_array(path, key, get=get, members=members, dim=dim)[1]


def _unreadable(path: Path, error: Exception | str) -> ValueError:
    # NumPy takes unknown contents for pickled objects.
    reason = "no array of numbers in it" if "pickle" in str(error) else error
    return ValueError(f"{path}: not a readable {path.suffix} file ({reason})")


def choose_array(
    path: Path,
    key: str | None,
    *,
    get: Callable[[str], Any],
    members: Callable[[], Iterable[Member]],
    dim: int,
) -> tuple[str, Any]:
    """Return the name and the array that ``key`` chooses.

    If ``key`` is None, this is "heatmaps", or else the only array that can be heatmaps.

    Args:
        path: the path of the file.
        key: the name or path of the array in the file.
        get: returns the array of a name, or None if there is none.
        members: returns all arrays of the file.
        dim: the number of axes of a map; heatmaps have at least as many.

    Raises:
        ValueError: no array can be chosen, or more than one.
    """
    if (array := get("heatmaps" if key is None else key)) is not None:
        return "heatmaps" if key is None else key, array
    found = [*members()]
    possible = [each for each in found if _can_be_heatmaps(each, dim)]
    if key is not None:
        problem = f"no array {key!r}"
    elif len(possible) == 1:
        return possible[0].name, get(possible[0].name)
    elif possible:
        found = possible
        largest = max(found, key=lambda each: math.prod((each.shape or ())[-dim:]))
        problem = f"choose one of its arrays, such as key={largest.name!r}"
    else:
        problem = f"none of its arrays can be heatmaps, real numbers along {dim} axes or more"
    listed = ", ".join(map(str, found[:MOST_LISTED])) or "none"
    more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    raise ValueError(f"{path}: {problem}; it has {listed}{more}")


def _can_be_heatmaps(member: Member, dim: int) -> bool:
    return member.shape is not None and len(member.shape) >= dim and checks.is_real(member.dtype)
