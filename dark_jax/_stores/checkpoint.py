"""What is kept beside a target until it is complete, so that nothing done is done again.

``TARGET.incomplete`` holds the results as far as they are there (``result``), what they are made
of and with (``about.json``), a note of each block that is there (``notes``), files not yet written
to their end (``spare-...``), a lock, and a text that marks the folder as ours. A folder without
that text is never touched.

The protocol, of which every step may be the last one of a process:

- *begin*: delete what an earlier run left, make the result without its blocks, and at last
  ``about.json``. Without ``about.json`` nothing has begun.
- *commit* a block: write its files, and then its note, which says what it lacks. Without a note
  it is not there.
- *finish*: rename an old target to ``replaced``, the result to the target, and delete the rest.
  A target that is missing while ``replaced`` is there is put back by the next run.
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
    "dark_jax.decode_store keeps here what it has decoded, until all of it is. The same call with "
    "resume=True (dark-jax: --resume) goes on, with overwrite=True (--overwrite) it begins again.\n"
)
# What we make in the folders that we delete.
NOTES = re.compile(r"\d{8,}\.json")
SPARES = re.compile(r"[0-9a-f]{32}")

CHANGED = (
    "begin again with overwrite=True, or go on with resume=True and accept_changed_source=True if "
    "the values that are decoded already are the same, as after copying it or repairing a chunk"
)


class Note(NamedTuple):
    """What is known of a block that is there.

    Attributes:
        seen: what tells the state of its source, as of when it was read.
        unread: the chunks that it lacks.
    """

    seen: str
    unread: list[Unread]


def folder_of(target: Path) -> Path:
    """The folder beside a target."""
    return target.with_name(f"{target.name}.incomplete")


@dataclass(frozen=True)
class Checkpoint:
    """The results of one store on their way to the target.

    Attributes:
        target: where they are to be; without links.
        writer: what files they are.
        source: what tells the present state of what is decoded, as JSON.
        spare: where this run's files are until they are whole. A worker that is still at it when
            its run has ended finds the folder gone, and cannot spoil the next one's.
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
        """The results, until they are complete."""
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

        The folder is made, and is gone afterwards if nothing has begun in it.

        Raises:
            BlockingIOError: another run holds it.
            FileExistsError: there is a folder of this name that is neither empty nor ours.
        """
        filelock: Any = optional.load("filelock", extra="store")
        folder = self.folder
        if not (_is_ours(folder) or _is_ours(folder)):  # or was not when its run ended just now
            raise FileExistsError(
                f"{folder} is in the way: dark_jax did not make it; move it, or choose another "
                "target"
            )
        with suppress(FileExistsError):  # of one that another run deletes; the lock tells
            folder.mkdir(exist_ok=True)
        # Two threads of one process exclude each other too: each has a lock of its own.
        lock = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except (filelock.Timeout, FileNotFoundError):  # held, or its holder deletes the folder
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
        with suppress(OSError):  # of a network's file system, or what another run begins in it
            if set(os.listdir(self.folder)) <= {LOCK, MARK}:
                # In this order: without the mark it is ours as long as it has nothing but the lock.
                for name in (MARK, LOCK):
                    (self.folder / name).unlink()
                self.folder.rmdir()

    def check(self, *, resume: bool, overwrite: bool, accept_changed_source: bool) -> bool:
        """Whether all is done already, under the lock.

        Raises:
            ValueError: what is to be resumed has other parameters or another source.
            FileExistsError: a run may neither begin nor go on.
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
        """What made the results at the target; FileExistsError if dark_jax did not make them."""
        done = writers.read_about(self.target)
        if done is None:
            made = "dark_jax did not make it" if self.target.is_dir() else "it is a file, no folder"
            raise FileExistsError(f"{self.target} {problem}: {made}; choose another target")
        return done

    def _begun(self) -> dict[str, Any] | None:
        """What an unfinished run was begun with."""
        if not self.result.exists():
            return None  # its results stand at the target
        with suppress(FileNotFoundError):
            return plain_json.read_json(self._about) or {
                "about": {},
                "source": {},
                "replaces": False,
            }
        return None

    def _put_back(self) -> None:
        """Complete, or undo, what a killed run has done to the old target."""
        if self._replaced.exists() and not self.target.exists():
            os.rename(self._replaced, self.target)
        elif writers.read_about(self.target) is not None:
            _delete(self._replaced)

    def _check_same(self, begun: Mapping[str, Any]) -> None:
        before, now = _leaves(begun), _leaves(self.writer.about)
        # A name or a number says more than the coefficients of a kernel, which differ with it.
        for name, value in sorted(now.items(), key=lambda leaf: isinstance(leaf[1], list)):
            if before.get(name) != value:
                raise ValueError(
                    f"{self.target} cannot be resumed with another {name}: it was "
                    f"{before.get(name)!r:.200}, now it is {value!r:.200}"
                )

    def check_unchanged(
        self, now: Mapping[str, Any], before: Mapping[str, Any] | None = None
    ) -> None:
        """ValueError if the source is in another state than before, or than when this run began."""
        before = self.source if before is None else before
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{self.writer.about['source']} has changed since {self.target} was begun: the "
                    f"size or modification time of {name}; {CHANGED}"
                )

    def _check_deletable(self) -> None:
        """FileExistsError if anything is in what we delete that we did not make."""
        spares = self.folder.glob("spare-*")
        made = {self._notes: NOTES, **dict.fromkeys(spares, SPARES)}
        made |= dict.fromkeys((self.result, self._replaced), self.writer.made)
        for folder, names in made.items():
            _check_made(folder, names)

    def _check_replaceable(self) -> None:
        """The same of the target, which must be ours; and that it can be deleted."""
        self._made("is not replaced")
        _check_made(self.target, self.writer.made)
        for path in (self.target, *filter(Path.is_dir, self.target.rglob("*"))):
            if not os.access(path, os.W_OK):
                raise PermissionError(
                    f"{self.target} is not replaced: {path} may not be written; allow it, or "
                    "choose another target"
                )

    def begin(self, *, overwrite: bool, accept_changed_source: bool) -> None:
        """Go on with what is there, or from nothing."""
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
        """The blocks that are not there, or lack a chunk."""
        notes = ((index, self.note(index)) for index in self.writer.blocks)
        return [
            index
            for index, note in notes
            if note is None or note.unread or not self._is_whole(index)
        ]

    def _is_whole(self, index: Index) -> bool:
        # A file without contents is what a file system may leave when the power goes.
        paths = [self.result / name for name in self.writer.names(index)]
        return all(path.exists() and path.stat().st_size for path in paths)

    def commit(self, index: Index, keypoints: Keypoints, note: Note) -> None:
        """Keep a block: NumPy arrays of its full size."""
        for name, contents in self.writer.files(index, keypoints):
            self._put(self.result / name, contents)
        self.put_note(index, note)

    def put_note(self, index: Index, note: Note) -> None:
        """Keep what is known of a block that is there."""
        unread = [chunk._asdict() for chunk in note.unread]
        self._put(self._note(index), plain_json.json_bytes({"seen": note.seen, "unread": unread}))

    def note(self, index: Index) -> Note | None:
        """What is known of a block; None if it is not there."""
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
        cure = "what is done is kept, and resume=True goes on"
        atomic.write_aside(path, contents, spare=self.folder / self.spare, cure=cure)

    def unread(self) -> list[Unread]:
        """All chunks that are lacking, in the order of the blocks."""
        notes = map(self.note, self.writer.blocks)
        return [chunk for note in notes if note for chunk in note.unread]

    def finish(self) -> None:
        """Present the results, which are on the disk before their name is, and delete the rest.

        Raises:
            FileExistsError: something else has come to stand at the target.
        """
        begun = self._begun()
        if begun is not None:
            if self.target.exists() and not begun["replaces"]:
                raise FileExistsError(
                    f"{self.target} was not there when this run began, and is not replaced: move "
                    f"it elsewhere; the results are complete in {self.result}, resume=True "
                    "presents them"
                )
            if self.target.exists():
                self._check_replaceable()
            with ThreadPoolExecutor(32) as pool:  # a file system commits what waits together
                list(pool.map(_settle, filter(Path.is_file, self.result.rglob("*"))))
            if self.target.exists():
                os.rename(self.target, self._replaced)
            os.rename(self.result, self.target)
        self._check_deletable()
        spares = self.folder.glob("spare-*")
        for path in (self._replaced, self.result, *spares, self._notes, self._about):
            _delete(path)


def _is_ours(folder: Path) -> bool:
    """Whether a folder may be written in, and emptied: there is none, or it is empty or ours."""
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
    """A file or a folder that we made, if it is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for attempt in range(10):
        try:
            shutil.rmtree(path)
            return
        except OSError as error:  # a worker of a run that has ended still writes in it
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT) or attempt == 9:
                raise
        if not path.exists():
            return


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """The entries of nested dictionaries by their dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= _leaves(each, f"{name}.{key}" if name else key)
    return found


def _settle(path: Path) -> None:
    with atomic.writing(path), path.open("rb") as stream:
        os.fsync(stream.fileno())
