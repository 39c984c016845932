"""Read, decode and write one block of a store, in a thread or in a worker process."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._stores import readers
from dark_jax._stores.blocks import Blocks
from dark_jax._stores.checkpoint import CHANGED, Checkpoint, Note
from dark_jax._stores.decoder import Decoder
from dark_jax._stores.readers import Reader

Index = tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """Everything that a thread or a worker process needs in order to decode a block."""

    source: Path
    key: str | None
    decoder: Decoder
    x64: bool
    refuse_missing_chunks: bool
    checkpoint: Checkpoint

    @property
    def blocks(self) -> Blocks:
        """The blocks that the source is cut into."""
        return self.checkpoint.writer.blocks

    def do(self, index: Index, reader: Reader | None = None) -> int:
        """Decode one block, write it, and return its number of maps."""
        if reader is None:
            with readers.opened(self.source, key=self.key) as reader:
                return self.do(index, reader)
        seen = readers.fingerprint(reader, self.blocks.region(index))  # before it is read
        maps, lost, unread = readers.read_block(
            reader, self.blocks, index, refuse_missing_chunks=self.refuse_missing_chunks
        )
        padding = self.blocks.padding(index)
        if any(after for _, after in padding):
            maps = np.pad(maps, padding)
        with jax.enable_x64(self.x64):
            keypoints = jax.device_get(self.decoder.of_block(self.blocks, index)(maps))
        if lost is not None:
            keypoints = _without(keypoints, lost)
        self.checkpoint.commit(index, keypoints, Note(seen, unread))
        return self.blocks.maps(index)

    def check_unchanged(self, reader: Reader, *, accept: bool = False) -> None:
        """Raise ValueError if the source has changed since the written blocks were decoded.

        With ``accept``, record the present state of the source in their notes instead.
        """
        if not accept:
            self.checkpoint.check_unchanged(reader.state())
        for index in self.blocks if reader.separate else ():
            note = self.checkpoint.note(index)
            if note is None or note.unread:
                continue
            seen = readers.fingerprint(reader, self.blocks.region(index))
            if seen != note.seen and not accept:
                raise ValueError(
                    f"{reader.where} has changed since {self.checkpoint.target} was begun, a chunk "
                    f"of the block {index}; {CHANGED}"
                )
            if seen != note.seen:
                self.checkpoint.put_note(index, Note(seen, []))


def _without(keypoints: Keypoints, lost: np.ndarray) -> Keypoints:
    """Give lost maps NaN and ``NOT_FINITE``, where a published rule would give its sentinel."""
    filled = {"coords": np.nan, "scores": np.nan, "status": Status.NOT_FINITE, "covariance": np.inf}
    where = tuple(slice(0, side) for side in lost.shape)
    arrays = {n: np.array(field) for n, field in vars(keypoints).items() if field is not None}
    for name, array in arrays.items():
        array[where][lost] = filled[name]
    return Keypoints(**arrays)  # pyright: ignore[reportArgumentType]
