"""Write files whole or not at all."""

import os
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


def check_target(
    path: Path, *, suffixes: tuple[str, ...] = (), option: str, folder_too: bool = False
) -> None:
    """Raise ValueError or OSError unless a file can be written at ``path``.

    The suffix must be one of ``suffixes``, if any are given. A folder at ``path`` is an error
    unless ``folder_too``.
    """
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f"{option} must end in {', '.join(suffixes)}, got {str(path)!r}")
    with writing(path), suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and not folder_too:
            raise IsADirectoryError(f"{option} {path} is a directory: name a file in it")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FileExistsError(
                f"{option} {path} is not a file but a device, a pipe or a socket: choose another "
                "path"
            )
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {folder}")
    # An existing folder is replaced, or is already complete; nothing is written into it.
    beneath = folder if path.is_dir() or not path.exists() else path
    if not (os.access(folder, os.W_OK) and os.access(beneath, os.W_OK)):
        raise PermissionError(f"{option} {path} cannot be written: there is no permission")


@contextmanager
def writing(path: Path, *, cure: str = "") -> Iterator[None]:
    """Add the path and the cure to an OSError, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # raised by dark_jax, with a full message
            raise
        told = f"cannot be written ({error.strerror or error})"
        raise OSError(error.errno, f"{told}; {cure}" if cure else told, str(path)) from error


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write all files or none: write each one beside its target, then rename them all."""
    beside: dict[str, Path] = {}
    try:
        for path, data in contents.items():
            target = path.resolve()  # a link's target is replaced, not the link
            with writing(path):
                # The prefix is fixed: the name of the target with an addition might be too long.
                handle, name = tempfile.mkstemp(dir=target.parent, prefix=".dark_jax.")
                beside[name] = target
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.chmod(name, target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        for name, path in beside.items():
            with writing(path):
                os.replace(name, path)
    finally:
        for name in beside:
            with suppress(OSError):  # a renamed file is gone
                os.unlink(name)


def write_aside(path: Path, contents: bytes, *, spare: Path, cure: str) -> None:
    """Write a file whole or not at all, by a rename from ``spare`` in the same file system."""
    aside = spare / uuid.uuid4().hex
    try:
        with writing(path, cure=cure):
            aside.write_bytes(contents)
            os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
