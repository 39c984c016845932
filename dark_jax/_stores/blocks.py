"""Cut an array of maps into blocks that fit in memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dark_jax._core.batching import other_sizes

Region = tuple[slice, ...]

# Target size of the maps of a block, in bytes. A block is so large that the milliseconds spent on
# scheduling and files do not matter, and so small that every core can hold one.
GOAL = 32 << 20


@dataclass(frozen=True)
class Blocks:
    """A grid of blocks over the axes that do not belong to a map; each block holds whole maps.

    Attributes:
        shape: the shape of the array.
        axes: the axes of a map, counted from 0, in increasing order.
        size: ``[others]``, the size of a block; the last block along an axis may be shorter.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """The sizes of the axes that do not belong to a map: the shape of scores without slots."""
        return other_sizes(self.shape, self.axes)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of blocks along each of the other axes."""
        return tuple(-(-n // size) for n, size in zip(self.others, self.size, strict=True))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """The index of each block, in row-major order."""
        return iter(np.ndindex(*self.counts))

    def number(self, index: tuple[int, ...]) -> int:
        """Return the position of a block in row-major order."""
        return int(np.ravel_multi_index(index, self.counts)) if index else 0

    def part(self, index: tuple[int, ...]) -> Region:
        """Return the slices of a block along the other axes."""
        return tuple(
            slice(at * size, min((at + 1) * size, n))
            for at, size, n in zip(index, self.size, self.others, strict=True)
        )

    def maps(self, index: tuple[int, ...]) -> int:
        """Return the number of maps in a block."""
        return math.prod(along.stop - along.start for along in self.part(index))

    @property
    def volume(self) -> int:
        """The number of values in a block of full size."""
        return math.prod(self.size) * math.prod(self.shape[axis] for axis in self.axes)

    def region(self, index: tuple[int, ...]) -> Region:
        """Return the slices of a block along all axes of the array."""
        left = iter(self.part(index))
        return tuple(
            slice(0, n) if axis in self.axes else next(left) for axis, n in enumerate(self.shape)
        )

    def padding(self, index: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the padding, as for ``np.pad``, that brings a shorter block to full size.

        All blocks then have one shape, so that one compiled program decodes them.
        """
        left = iter(self.size)
        return [
            (0, 0 if axis in self.axes else next(left) - (part.stop - part.start))
            for axis, part in enumerate(self.region(index))
        ]


def cut_into_blocks(
    shape: tuple[int, ...], itemsize: int, chunks: tuple[int, ...] | None, axes: tuple[int, ...]
) -> Blocks:
    """Return blocks of whole chunks: as many chunks as ``GOAL`` bytes hold, and at least one."""
    chunks = chunks or (1,) * len(shape)
    # Treat an empty axis as one entry, to avoid a division by zero; it still has no block.
    shape, whole = tuple(max(1, n) for n in shape), shape
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
