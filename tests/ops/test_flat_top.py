"""The middle of a flat top is checked by hand and against a search from pixel to pixel."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax._ops.flat_top import at_middle
from dark_jax._ops.peak import find_peak
from tests.support import oracle, synthetic
from tests.support.batches import in_batches
from tests.support.cases import slow_but

BATCH, SIZE = 16, (20, 24)
middles = jax.jit(jax.vmap(lambda heatmap: at_middle(heatmap, find_peak(heatmap))))


def found(maps: np.ndarray) -> np.ndarray:
    """The middles, ``[N, ndim]`` (x, y, ...)."""
    return np.stack(in_batches(lambda m: middles(m).position, maps, size=BATCH), axis=-1)


def drawn(*rows: str) -> np.ndarray:
    """A map of ``SIZE`` with a shape in it: ``#`` is the maximum, any other mark is lower."""
    heatmap = np.full(SIZE, 0.5, np.float32)
    for y, row in enumerate(rows):
        for x, mark in enumerate(row):
            heatmap[5 + y, 6 + x] = 1.0 if mark == "#" else 0.75
    return heatmap


BY_HAND: dict[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "one pixel": (("#",), (6, 5)),
    "an even run": (("####",), (7, 5)),
    "an odd run": (("#####",), (8, 5)),
    "a column": (("#", "#", "#"), (6, 6)),
    "a square": (("###", "###", "###"), (7, 6)),
    "touching at a corner": ((" #", "#"), (7, 5)),
    "a pixel between": (("# #",), (6, 5)),
    "a row between": (("#", " ", "#"), (6, 5)),
    "not touching, on neighbouring rows": (("#", "  #"), (6, 5)),
    "an L": (("#", "#", "#", "####"), (6, 7)),
    "an L turned over": (("   #", "   #", "   #", "####"), (9, 7)),
    "a U": (("#   #", "#   #", "#####"), (8, 7)),
    "a W": (("#  #  #", "#  #  #", "#  #  #", "#######"), (9, 7)),
    "a ring": (("#####", "#   #", "#   #", "#   #", "#####"), (8, 5)),
    "a snake": (("# ###", "# # #", "# # #", "### #"), (8, 6)),
    "seven pixels away": (("########",), (9, 5)),
    "eight pixels away": (("#########",), (9, 5)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    rows, expected = BY_HAND[name]
    assert tuple(found(drawn(*rows)[None])[0]) == expected
    assert tuple(oracle.middle(drawn(*rows))) == expected


def test_equal_peaks_that_do_not_touch() -> None:
    """The second peak is near or far, on the same row or on a later one."""
    maps = np.zeros((4, 24, 40), np.float32)
    for heatmap, other in zip(maps, [(11, 12), (11, 30), (10, 30), (12, 10)], strict=True):
        heatmap[10, 10] = heatmap[other] = 1
        heatmap[11, 11] = 0.5
    assert found(maps).tolist() == [[10, 10]] * 4


@pytest.mark.parametrize(
    "size",
    slow_but(
        [SIZE, (9, 10, 11)],
        [SIZE, (40,), (5,), (1, 30), (30, 1), (2, 2), (3, 4), (17, 16), (9, 10, 11), (2, 3, 2)],
    ),
    ids=str,
)
def test_finds_what_the_search_finds(size: tuple[int, ...]) -> None:
    """The random shapes have few or many pixels and reach every border. None winds like a maze."""
    shares = np.repeat([0.05, 0.15, 0.25, 0.7, 0.85, 1.0], BATCH)
    random = synthetic.rng(0).random((len(shares), *size))
    maps = (random < shares.reshape(-1, *[1] * len(size))).astype(np.float32)
    expected = np.stack([oracle.middle(heatmap) for heatmap in maps])
    assert (found(maps) == expected).all(axis=1).mean() > 0.99
    blobs = [np.clip(np.round(m * 1.3, 1), 0, 1) for m in synthetic.rng(1).random((BATCH, *size))]
    expected = np.stack([oracle.middle(heatmap) for heatmap in blobs])
    np.testing.assert_array_equal(found(np.stack(blobs).astype(np.float32)), expected)


def test_discs_at_every_border() -> None:
    """Some discs are cut, and some rows would be read beyond the memory of the map."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = [(x, y) for x in (-1, 0, 2, 12, 21, 23, 24) for y in (-1, 0, 3, 10, 17, 19, 20)]
    maps = np.stack([(x - a) ** 2 + (y - b) ** 2 < 10 for a, b in centres]).astype(np.float32)
    np.testing.assert_array_equal(found(maps), np.stack([oracle.middle(m) for m in maps]))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bfloat16", "float16", "int32"])
def test_types(dtype: str) -> None:
    """Pixels are compared in their own dtype: float32 cannot hold every int32."""
    maps = np.zeros((2, *SIZE), np.int64)
    maps[0, 4:7, 5:10] = maps[1, 4:7, 5:10] = 100
    maps *= 2**20 if dtype == "int32" else 1
    maps[1, 4, 5] += 1
    assert found(np.asarray(jnp.asarray(maps, dtype))).tolist() == [[7, 5], [5, 4]]


def test_nothing_above_zero_keeps_the_first() -> None:
    maps = np.stack([np.zeros(SIZE), -np.ones(SIZE), np.full(SIZE, np.nan)]).astype(np.float32)
    assert found(maps).tolist() == [[0, 0]] * 3


def test_what_is_known_of_it() -> None:
    """The centroid is relative to the peak. The blob's middle is within the tolerance."""
    peak: Any = in_batches(
        middles,
        np.stack([drawn("####"), drawn("####", "####", "####"), drawn(*["#" * 9] * 3)]),
        size=BATCH,
    )
    np.testing.assert_allclose(peak.top.centre[0], [0.5, 0.5, 0.5], atol=1 / 16)
    np.testing.assert_allclose(peak.top.centre[1], [0.0, 0.0, 0.0], atol=1 / 16)
    np.testing.assert_array_equal(peak.top.wide, [False, True, True])
    np.testing.assert_array_equal(peak.top.whole, [True, True, False])
    assert 0.4 < peak.top.tolerance[1] < 0.5


@pytest.mark.parametrize("corner", [(0, 10), (17, 10), (8, 0), (8, 21), (0, 0), (16, 20)])
def test_a_top_at_the_edge_of_the_map_is_told(corner: tuple[int, int]) -> None:
    heatmap = np.zeros(SIZE, np.float32)
    heatmap[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4] = 1
    inner = np.zeros(SIZE, np.float32)
    inner[1:5, 1:5] = inner[15:19, 19:23] = 1
    peak: Any = in_batches(middles, np.stack([heatmap, inner]), size=BATCH)
    np.testing.assert_array_equal(peak.top.unclear, [True, False])
