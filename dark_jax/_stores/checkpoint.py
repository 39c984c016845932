"""What is kept beside a target until it is complete, so that nothing done is done again.

``TARGET.incomplete`` holds the results as far as they are there (``result``), what they are
made with (``about.json``), the chunks that could not be read (``unread``), files not yet
written to their end (``spare``) and a lock. The last act renames the results: whatever stands
at TARGET is complete.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dark_jax._core import optional
from dark_jax._io import atomic
from dark_jax._stores import writers
from dark_jax._stores.blocks import Blocks
from dark_jax._stores.readers import Unread
from dark_jax._stores.writers import Writer


class Checkpoint:
    """The folder beside a target.

    Attributes:
        target: where the results are to be.
        folder: ``TARGET.incomplete``.
        result: the results until then.
        spare: for files not yet written to their end.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.incomplete")
        self.result = self.folder / "result"
        self.spare = self.folder / "spare"
        self._unread = self.folder / "unread"
        self._about = self.folder / "about.json"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold an exclusive lock on the folder; the OS releases it when the process dies.

        Raises:
            BlockingIOError: another run holds it.
        """
        locket: Any = optional.load("locket", extra="store")
        self.folder.mkdir(exist_ok=True)
        lock = locket.lock_file(str(self.folder / "lock"), timeout=0)
        try:
            lock.acquire()
        except locket.LockError:
            raise BlockingIOError(f"{self.target} is being written by another run") from None
        try:
            yield
        finally:
            lock.release()

    def check(self, about: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
        """Whether all is done already; ValueError or OSError unless a run may begin or go on.

        Writes nothing.
        """
        begun = json.loads(self._about.read_text()) if self._about.exists() else None
        if resume and begun is not None and self.result.exists():
            self._same(begun, about)
            return False
        if overwrite or not self.target.exists():
            if begun is not None and not overwrite:
                raise FileExistsError(
                    f"{self.folder} is an unfinished run: resume it, or overwrite it"
                )
            if self.target.exists() and writers.read_about(self.target) is None:
                raise FileExistsError(f"{self.target} is not overwritten: dark_jax did not make it")
            return False
        if not resume:
            raise FileExistsError(f"{self.target} exists: overwrite it, or choose another target")
        done = writers.read_about(self.target)
        if done is None:
            raise FileExistsError(f"{self.target} cannot be resumed: dark_jax did not make it")
        self._same(done, about)
        return True

    def _same(self, begun: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        for name, value in about.items():
            if begun.get(name) != value:
                raise ValueError(
                    f"{self.target} cannot be resumed with another {name}: it was "
                    f"{begun.get(name)!r}, now it is {value!r}"
                )

    def begin(self, writer: Writer, *, overwrite: bool) -> None:
        """Go on with what is there, or from nothing."""
        if overwrite or not self._about.exists():
            self._about.unlink(missing_ok=True)
            for old in (self.result, self.spare, self._unread):
                shutil.rmtree(old, ignore_errors=True)
            self._unread.mkdir()
            self.spare.mkdir()
            writer.create()
            atomic.write_aside(self._about, atomic.json_bytes(writer.about), spare=self.spare)

    def todo(self, writer: Writer) -> list[tuple[int, ...]]:
        """The blocks that are not there, or lack a chunk."""
        return [
            index
            for index in writer.blocks
            if not writer.has(index) or self._note(writer.blocks, index).exists()
        ]

    def note(self, blocks: Blocks, index: tuple[int, ...], unread: list[Unread]) -> None:
        """Say which chunks a block lacks, before it is written."""
        contents = atomic.json_bytes([chunk._asdict() for chunk in unread])
        atomic.write_aside(self._note(blocks, index), contents, spare=self.spare)

    def whole(self, blocks: Blocks, index: tuple[int, ...]) -> None:
        """Nothing is lacking any more, once the block is written."""
        self._note(blocks, index).unlink(missing_ok=True)

    def _note(self, blocks: Blocks, index: tuple[int, ...]) -> Path:
        return self._unread / f"{blocks.number(index):08d}.json"

    def unread(self) -> list[Unread]:
        """All chunks that are lacking, in the order of the blocks."""
        notes = [json.loads(path.read_text()) for path in sorted(self._unread.iterdir())]
        return [
            Unread(chunk["path"], tuple(chunk["chunk"]), chunk["reason"])
            for note in notes
            for chunk in note
        ]

    def finish(self) -> None:
        """Present the results, which are on the disk before their name is."""
        with ThreadPoolExecutor(32) as pool:  # a file system commits what waits together
            list(pool.map(_settle, filter(Path.is_file, self.result.rglob("*"))))
        if self.target.exists():
            os.rename(self.target, self.folder / "replaced")
        os.rename(self.result, self.target)

    def clear(self) -> None:
        """Leave nothing beside the target."""
        shutil.rmtree(self.folder)


def _settle(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
