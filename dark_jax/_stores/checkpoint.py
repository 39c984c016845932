"""Keep partial results beside the target until they are complete, so that a run can resume.

``TARGET.incomplete`` holds the results so far (``result``), their source and parameters
(``about.json``), a note for each written block (``notes``), files that are still being written
(``spare-...``), a lock, and a text file that marks the folder as made by dark_jax. A folder that
holds other files and lacks this text file is never changed.

The process may be killed after any step of this protocol:

- *begin*: delete what an earlier run left, create the result without its blocks, and write
  ``about.json`` last. Without ``about.json``, no run has begun.
- *commit* a block: write its files, and then its note, which lists the chunks that the block
  lacks. A block without a note counts as not written.
- *finish*: rename an old target to ``replaced``, rename the result to the target, and delete the
  rest. If the target is missing and ``replaced`` exists, the next run restores the old target.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dark_jax._core import optional
from dark_jax._core.keypoints import Keypoints
from dark_jax._io import atomic, plain_json
from dark_jax._stores import writers
from dark_jax._stores.readers import Unread
from dark_jax._stores.writers import Writer

Index = tuple[int, ...]

LOCK, MARK = "dark_jax.lock", "dark_jax.txt"
MARK_TEXT = (
    "dark_jax.decode_store keeps unfinished results here. Repeat the call with resume=True "
    "(dark-jax: --resume) to continue, or with overwrite=True (--overwrite) to begin again.\n"
)
# The names of the files that dark_jax makes in the folders that it deletes.
NOTES = re.compile(r"\d{8,}\.json")
SPARES = re.compile(r"[0-9a-f]{32}")

CHANGED = (
    "begin again with overwrite=True. If the decoded values are the same, as after copying it or "
    "repairing a chunk, continue with resume=True and accept_changed_source=True"
)


class Note(NamedTuple):
    """The record of a written block.

    Attributes:
        seen: the fingerprint of the chunk files of the block, taken just before they were read.
        unread: the chunks that could not be read.
    """

    seen: str
    unread: list[Unread]


def folder_of(target: Path) -> Path:
    """Return the path of ``TARGET.incomplete``."""
    return target.with_name(f"{target.name}.incomplete")


@dataclass(frozen=True)
class Checkpoint:
    """The partial results of one store, until they are complete and become the target.

    Attributes:
        target: the final path of the results, with links resolved.
        writer: defines the files of the results.
        source: the state of the source as this run began, as ``Reader.state`` returns it.
        spare: the folder for files that this run has not finished writing. A worker that outlives
            its run finds this folder gone, and so cannot spoil the files of the next run.
    """

    target: Path
    writer: Writer
    source: Mapping[str, Any]
    spare: str = field(default_factory=lambda: f"spare-{uuid.uuid4().hex}")

    @property
    def folder(self) -> Path:
        """``TARGET.incomplete``."""
        return folder_of(self.target)

    @property
    def result(self) -> Path:
        """The folder of the results until they are complete."""
        return self.folder / "result"

    @property
    def _replaced(self) -> Path:
        return self.folder / "replaced"

    @property
    def _notes(self) -> Path:
        return self.folder / "notes"

    @property
    def _about(self) -> Path:
        return self.folder / "about.json"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold an exclusive lock on the folder; the OS releases it when the process dies.

        The folder is created, and is deleted at the end if it holds no results or notes.

        Raises:
            BlockingIOError: another run holds the lock.
            FileExistsError: a folder of this name is neither empty nor made by dark_jax.
        """
        filelock: Any = optional.load("filelock", extra="store")
        folder = self.folder
        if not (_is_ours(folder) or _is_ours(folder)):  # twice: another run may be deleting it
            raise FileExistsError(
                f"{folder} is in the way: dark_jax did not make it; move it, or choose another "
                "target"
            )
        with suppress(FileExistsError):  # if another run deletes it meanwhile; the lock decides
            folder.mkdir(exist_ok=True)
        # Each thread has its own lock, so that two threads of one process exclude each other too.
        lock = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except (filelock.Timeout, FileNotFoundError):  # held, or the holder deletes the folder
            raise BlockingIOError(
                f"{self.target} is being written by another run: wait until it has ended, or "
                "choose another target"
            ) from None
        try:
            (folder / MARK).touch()
            yield
        finally:
            self._leave_no_empty_folder()
            lock.release()

    def _leave_no_empty_folder(self) -> None:
        with suppress(OSError):  # a network file system may refuse, or another run may begin
            if set(os.listdir(self.folder)) <= {LOCK, MARK}:
                # Delete the mark first: _is_ours accepts a folder that holds only the lock.
                for name in (MARK, LOCK):
                    (self.folder / name).unlink()
                self.folder.rmdir()

    def check(self, *, resume: bool, overwrite: bool, accept_changed_source: bool) -> bool:
        """Check that this run is allowed; return True if nothing is left to do. Needs the lock.

        Raises:
            ValueError: the run to resume has other parameters or another source.
            FileExistsError: this run may neither begin nor resume.
        """
        self._check_deletable()
        self._put_back()
        begun, there = self._begun(), self.target.exists()
        if resume and begun is not None:
            self._check_same(begun["about"])
            if not accept_changed_source:
                self.check_unchanged(self.source, begun["source"])
            return False
        if resume and there:
            self._check_same(self._made("cannot be resumed"))
            return True
        if begun is not None and not overwrite:
            raise FileExistsError(
                f"{self.target} is unfinished: go on with resume=True, or begin again with "
                "overwrite=True"
            )
        if there and not overwrite:
            self._made("exists")
            raise FileExistsError(
                f"{self.target} exists: replace it with overwrite=True, or choose another target"
            )
        if there:
            self._check_replaceable()
        return False

    def _made(self, problem: str) -> dict[str, Any]:
        """Return the target's parameters; raise FileExistsError if dark_jax did not make it."""
        done = writers.read_about(self.target)
        if done is None:
            made = (
                "dark_jax did not make it" if self.target.is_dir() else "it is a file, not a folder"
            )
            raise FileExistsError(f"{self.target} {problem}: {made}; choose another target")
        return done

    def _begun(self) -> dict[str, Any] | None:
        """Return the contents of ``about.json`` of an unfinished run, or None."""
        if not self.result.exists():
            return None  # no run has begun, or its results are already at the target
        with suppress(FileNotFoundError):
            return plain_json.read_json(self._about) or {
                "about": {},
                "source": {},
                "replaces": False,
            }
        return None

    def _put_back(self) -> None:
        """Undo or complete the replacement of an old target that a killed run left half done."""
        if self._replaced.exists() and not self.target.exists():
            os.rename(self._replaced, self.target)
        elif writers.read_about(self.target) is not None:
            _delete(self._replaced)

    def _check_same(self, begun: Mapping[str, Any]) -> None:
        before, now = _leaves(begun), _leaves(self.writer.about)
        # Compare lists last: the name or number that changes a kernel says more than its values.
        for name, value in sorted(now.items(), key=lambda leaf: isinstance(leaf[1], list)):
            if before.get(name) != value:
                raise ValueError(
                    f"{self.target} cannot be resumed with another {name}: it was "
                    f"{before.get(name)!r:.200}, now it is {value!r:.200}"
                )

    def check_unchanged(
        self, now: Mapping[str, Any], before: Mapping[str, Any] | None = None
    ) -> None:
        """Raise ValueError if the source has changed since ``before``, or since this run began."""
        before = self.source if before is None else before
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{self.writer.about['source']} has changed since {self.target} was begun: the "
                    f"size or modification time of {name}; {CHANGED}"
                )

    def _check_deletable(self) -> None:
        """Raise FileExistsError if a folder to delete holds a file that dark_jax did not make."""
        spares = self.folder.glob("spare-*")
        made = {self._notes: NOTES, **dict.fromkeys(spares, SPARES)}
        made |= dict.fromkeys((self.result, self._replaced), self.writer.made)
        for folder, names in made.items():
            _check_made(folder, names)

    def _check_replaceable(self) -> None:
        """Raise OSError unless dark_jax made all files of the target and can delete them."""
        self._made("is not replaced")
        _check_made(self.target, self.writer.made)
        for path in (self.target, *filter(Path.is_dir, self.target.rglob("*"))):
            if not os.access(path, os.W_OK):
                raise PermissionError(
                    f"{self.target} is not replaced: {path} may not be written; allow it, or "
                    "choose another target"
                )

    def begin(self, *, overwrite: bool, accept_changed_source: bool) -> None:
        """Prepare the folder: keep the written blocks of an unfinished run, or start anew."""
        begun = None if overwrite else self._begun()
        fresh = begun is None
        replaces = self.target.exists() if begun is None else begun["replaces"]
        about = {"about": self.writer.about, "source": self.source, "replaces": replaces}
        if fresh:
            self._about.unlink(missing_ok=True)
        for spare in self.folder.glob("spare-*"):
            _delete(spare)
        (self.folder / self.spare).mkdir()
        if fresh:
            for old in (self.result, self._notes):
                _delete(old)
            self._put(self.folder / MARK, MARK_TEXT.encode())
            with atomic.writing(self.result):
                self.writer.create(self.result)
        self._notes.mkdir(exist_ok=True)
        if fresh or accept_changed_source:
            self._put(self._about, plain_json.json_bytes(about))

    def todo(self) -> list[Index]:
        """Return the blocks that are not written or that lack a chunk."""
        notes = ((index, self.note(index)) for index in self.writer.blocks)
        return [
            index
            for index, note in notes
            if note is None or note.unread or not self._is_whole(index)
        ]

    def _is_whole(self, index: Index) -> bool:
        # A file system may leave an empty file after a power failure.
        paths = [self.result / name for name in self.writer.names(index)]
        return all(path.exists() and path.stat().st_size for path in paths)

    def commit(self, index: Index, keypoints: Keypoints, note: Note) -> None:
        """Write a block, given as NumPy arrays of full block size, and then its note."""
        for name, contents in self.writer.files(index, keypoints):
            self._put(self.result / name, contents)
        self.put_note(index, note)

    def put_note(self, index: Index, note: Note) -> None:
        """Write the note of a written block."""
        unread = [chunk._asdict() for chunk in note.unread]
        self._put(self._note(index), plain_json.json_bytes({"seen": note.seen, "unread": unread}))

    def note(self, index: Index) -> Note | None:
        """Return the note of a block, or None if the block is not written."""
        with suppress(FileNotFoundError):
            if found := plain_json.read_json(self._note(index)):
                unread = [
                    Unread(chunk["path"], tuple(chunk["chunk"]), chunk["reason"])
                    for chunk in found["unread"]
                ]
                return Note(found["seen"], unread)
        return None

    def _note(self, index: Index) -> Path:
        return self._notes / f"{self.writer.blocks.number(index):08d}.json"

    def _put(self, path: Path, contents: bytes) -> None:
        cure = "the results so far are kept; continue with resume=True"
        atomic.write_aside(path, contents, spare=self.folder / self.spare, cure=cure)

    def unread(self) -> list[Unread]:
        """Return all chunks that could not be read, in the order of the blocks."""
        notes = map(self.note, self.writer.blocks)
        return [chunk for note in notes if note for chunk in note.unread]

    def finish(self) -> None:
        """Flush the results to the disk, rename them to the target, and delete the rest.

        Raises:
            FileExistsError: something else has appeared at the target since the run began.
        """
        begun = self._begun()
        if begun is not None:
            if self.target.exists() and not begun["replaces"]:
                raise FileExistsError(
                    f"{self.target} was not there when this run began, and is not replaced: move "
                    f"it elsewhere; the complete results are in {self.result}, and resume=True "
                    "moves them to the target"
                )
            if self.target.exists():
                self._check_replaceable()
            with ThreadPoolExecutor(32) as pool:  # a file system commits parallel fsyncs together
                list(pool.map(_settle, filter(Path.is_file, self.result.rglob("*"))))
            if self.target.exists():
                os.rename(self.target, self._replaced)
            os.rename(self.result, self.target)
        self._check_deletable()
        spares = self.folder.glob("spare-*")
        for path in (self._replaced, self.result, *spares, self._notes, self._about):
            _delete(path)


def _is_ours(folder: Path) -> bool:
    """Return whether dark_jax may fill and empty a folder: it is missing, empty or its own."""
    try:
        there = os.listdir(folder)
    except FileNotFoundError:
        return not folder.is_symlink()
    except NotADirectoryError:
        return False
    return not folder.is_symlink() and (MARK in there or set(there) <= {LOCK})


def _check_made(folder: Path, names: re.Pattern[str]) -> None:
    for path in folder.rglob("*"):
        if not names.fullmatch(path.relative_to(folder).as_posix()):
            raise FileExistsError(
                f"{folder} is not replaced: dark_jax did not make {path}; move it elsewhere, or "
                "choose another target"
            )


def _delete(path: Path) -> None:
    """Delete a file or a folder that dark_jax made, if it exists."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for attempt in range(10):
        try:
            shutil.rmtree(path)
            return
        except OSError as error:  # a worker of an earlier run may still write in the folder
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT) or attempt == 9:
                raise
        if not path.exists():
            return


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Return the entries of nested dictionaries by their dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= _leaves(each, f"{name}.{key}" if name else key)
    return found


def _settle(path: Path) -> None:
    with atomic.writing(path), path.open("rb") as stream:
        os.fsync(stream.fileno())
