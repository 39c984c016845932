"""How an array of maps is cut into blocks that fit memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dark_jax._core.batching import other_sizes

Region = tuple[slice, ...]

# Bytes of maps in a block: enough that the milliseconds of a scheduler and of files do not count,
# few enough that every core can hold one.
GOAL = 32 << 20


@dataclass(frozen=True)
class Blocks:
    """A grid over the axes of an array that are no map's; a block holds whole maps.

    Attributes:
        shape: of the array.
        axes: of a map, counted from 0, increasing.
        size: ``[others]``, of a block; the last ones along an axis may be shorter.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """The sides of the array that are no map's, the shape of the scores."""
        return other_sizes(self.shape, self.axes)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many blocks there are along each of the other axes."""
        return tuple(-(-n // size) for n, size in zip(self.others, self.size, strict=True))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """The index of each block, in row-major order."""
        return iter(np.ndindex(*self.counts))

    def number(self, index: tuple[int, ...]) -> int:
        """The place of a block in that order."""
        return int(np.ravel_multi_index(index, self.counts)) if index else 0

    def part(self, index: tuple[int, ...]) -> Region:
        """Where a block lies along the other axes."""
        return tuple(
            slice(at * size, min((at + 1) * size, n))
            for at, size, n in zip(index, self.size, self.others, strict=True)
        )

    def maps(self, index: tuple[int, ...]) -> int:
        """How many maps a block has."""
        return math.prod(along.stop - along.start for along in self.part(index))

    @property
    def volume(self) -> int:
        """How many values a block has."""
        return math.prod(self.size) * math.prod(self.shape[axis] for axis in self.axes)

    def region(self, index: tuple[int, ...]) -> Region:
        """Where a block lies in the array."""
        left = iter(self.part(index))
        return tuple(
            slice(0, n) if axis in self.axes else next(left) for axis, n in enumerate(self.shape)
        )

    def padding(self, index: tuple[int, ...]) -> list[tuple[int, int]]:
        """What a shorter block lacks along each axis of the array, as ``np.pad`` takes it.

        Of one shape, all blocks are decoded by one compiled program.
        """
        left = iter(self.size)
        return [
            (0, 0 if axis in self.axes else next(left) - (part.stop - part.start))
            for axis, part in enumerate(self.region(index))
        ]


def cut_into_blocks(
    shape: tuple[int, ...], itemsize: int, chunks: tuple[int, ...] | None, axes: tuple[int, ...]
) -> Blocks:
    """Blocks of whole chunks, as many of them as ``GOAL`` holds and at least one."""
    chunks = chunks or (1,) * len(shape)
    shape, whole = tuple(max(1, n) for n in shape), shape  # an axis of nothing has no block
    others = [axis for axis in range(len(shape)) if axis not in axes]
    size = {axis: min(chunks[axis], shape[axis]) for axis in others}
    held = itemsize * math.prod(size.get(axis, side) for axis, side in enumerate(shape))
    for axis in reversed(others):
        grown = min(chunks[axis] * max(1, GOAL // held), shape[axis])
        held = held // size[axis] * grown
        size[axis] = grown
        if grown < shape[axis]:
            break
    return Blocks(whole, axes, tuple(size.values()))
