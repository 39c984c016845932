"""Arrays are cut into blocks of the right size, and every map is in exactly one block."""

import numpy as np
import pytest

from dark_jax._stores import blocks
from dark_jax._stores.blocks import Blocks, cut_into_blocks


class TestBlocks:
    @pytest.mark.parametrize(
        ("shape", "chunks", "axes", "size"),
        [
            ((100, 3, 10, 10), None, (2, 3), (6, 3)),  # 7200 of 8000 bytes
            ((100, 3, 10, 10), (4, 3, 10, 10), (2, 3), (4, 3)),  # a whole chunk
            ((100, 3, 10, 10), (2, 1, 10, 10), (2, 3), (6, 3)),  # three by three chunks
            ((100, 3, 10, 10), (50, 1, 5, 5), (2, 3), (50, 1)),  # at least one chunk
            ((1, 100, 10, 10), None, (2, 3), (1, 20)),  # cut along the second axis
            ((2, 100, 10, 10), None, (2, 3), (1, 20)),
            ((100, 10, 10, 3), None, (1, 2), (6, 3)),  # channels-last
            ((10, 10), None, (0, 1), ()),
            ((3, 100, 100), None, (1, 2), (1,)),  # at least one map
            ((5, 2, 10, 10), (64, 64, 64, 64), (2, 3), (5, 2)),
        ],
    )
    def test_sizes(
        self,
        shape: tuple[int, ...],
        chunks: tuple[int, ...] | None,
        axes: tuple[int, ...],
        size: tuple[int, ...],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(blocks, "GOAL", 8000)
        found = cut_into_blocks(shape, 4, chunks, axes)
        assert found.size == size
        assert found.volume * 4 <= 8000 or found.size == tuple(
            (chunks or (1,) * 9)[axis] for axis in range(len(shape)) if axis not in axes
        )

    @pytest.mark.parametrize("axes", [(2, 3), (1, 2), (0, 2), (3,)])
    def test_every_map_is_in_one_block(self, axes: tuple[int, ...]) -> None:
        shape = (5, 4, 3, 2)
        others = tuple(n for axis, n in enumerate(shape) if axis not in axes)
        grid = Blocks(shape, axes, (2,) * len(others))
        seen, scores = np.zeros(shape, int), np.zeros(others, int)
        for number, index in enumerate(grid):
            assert grid.number(index) == number
            seen[grid.region(index)] += 1
            scores[grid.part(index)] += 1
            assert scores[grid.part(index)].size == grid.maps(index)
            full = np.pad(seen[grid.region(index)], grid.padding(index)).shape
            assert np.prod(full) == grid.volume
        assert (seen == 1).all()
        assert (scores == 1).all()
