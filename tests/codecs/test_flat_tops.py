"""Decoders come near the middle of flat tops, or the status says that they do not."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status, rules
from tests.support import synthetic
from tests.support.batches import in_batches
from tests.support.cases import slow_but

COUNT, SIZE = 300, (48, 48)
MAPS, CENTRES = synthetic.flat_tops(0, COUNT, SIZE)
SMALL = [name for name in MAPS if "disk" not in name and "sigma 3" not in name]


def highest(maps: np.ndarray) -> Keypoints:
    found = dark_jax.decode_peaks(maps, max_peaks=2, threshold=0.1, min_distance=3)
    return jax.tree.map(lambda leaf: leaf[:, 0], found)


DECODERS: dict[str, Callable[[np.ndarray], Keypoints]] = {
    "kernel 3": functools.partial(dark_jax.decode, kernel_size=3),
    "kernel 5": dark_jax.decode,
    "kernel 11": functools.partial(dark_jax.decode, kernel_size=11),
    "peaks": highest,
    "fit": functools.partial(dark_jax.decode_fit, sigma=2.0),
    "soft-argmax": functools.partial(dark_jax.decode_soft_argmax, temperature=0.1, radius=7),
}
# The largest mean error in pixels on the saturated sigmoids and clipped bytes of sigma 2.
WANTED = {"kernel 3": 0.4, "kernel 5": 0.15, "kernel 11": 0.03, "peaks": 0.15, "fit": 0.1}


def decoded(decoder: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The errors in pixels, and the statuses."""
    found = in_batches(DECODERS[decoder], MAPS[name], size=COUNT // 3)
    return np.linalg.norm(found.coords - CENTRES, axis=-1), np.asarray(found.status)


@pytest.mark.parametrize("decoder", slow_but(["kernel 5", "kernel 11"], DECODERS))
def test_near_or_not_refined(decoder: str) -> None:
    """At most one in a hundred is REFINED and more than half a pixel off, however wide the top."""
    for name in MAPS:
        errors, status = decoded(decoder, name)
        assert ((status == Status.REFINED) & (errors > 0.5)).mean() <= 0.01, name
        if decoder in WANTED and name in SMALL:
            assert errors.mean() <= WANTED[decoder], name


def test_kernel_11_on_wide_tops() -> None:
    for name, wanted in {"sigma 3": 0.03, "disk of 3": 0.15, "disk of 4": 0.15}.items():
        errors, status = decoded("kernel 11", next(each for each in MAPS if name in each))
        assert errors.mean() <= wanted, name
        assert (status == Status.REFINED).mean() > 0.98, name


@pytest.mark.parametrize("rule", slow_but([rules.HRNET], [rules.HRNET, rules.DARKPOSE]), ids=str)
def test_published_rules_start_at_the_first(rule: rules.Rule) -> None:
    """The answer is that of a map whose first maximum is a little higher."""
    maps = MAPS["bytes clipped at half their height"].astype(np.float32)
    raised = maps.copy()
    for heatmap in raised:
        heatmap[np.unravel_index(heatmap.argmax(), SIZE)] += 1e-3
    found, expected = (dark_jax.decode(m, rule=rule, kernel_size=None) for m in (maps, raised))
    np.testing.assert_allclose(found.coords, expected.coords, atol=1e-3)


def test_equal_peaks_that_do_not_touch_are_two() -> None:
    """The first peak is decoded, as if the other were lower."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]

    def blob(a: float, b: float, height: float) -> np.ndarray:
        return height * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 0.8**2))

    two = np.maximum(blob(10, 10, 1.0), blob(30, 11, 1.0))
    lower = np.maximum(blob(10, 10, 1.0), blob(30, 11, 0.9))
    found = dark_jax.decode(np.stack([two, lower]).astype(np.float32), kernel_size=5)
    np.testing.assert_allclose(found.coords, [[10, 10], [10, 10]], atol=1e-4)


ROWS, VOLUMES = ((96,), (-1,)), ((24, 24, 24), (-3, -2, -1))


@pytest.mark.parametrize(("size", "axes"), slow_but([ROWS], [ROWS, VOLUMES], unpack=True), ids=str)
def test_rows_and_volumes(size: tuple[int, ...], axes: tuple[int, ...]) -> None:
    maps, centres = synthetic.flat_tops(1, 60, size)
    narrow: Any = functools.partial(dark_jax.decode, axes=axes)
    wide: Any = functools.partial(dark_jax.decode, kernel_size=11, axes=axes)
    fit: Any = functools.partial(dark_jax.decode_fit, sigma=2.0, axes=axes)
    for name in SMALL:
        for decoder, wanted in ((narrow, 0.2), (wide, 0.1), (fit, 0.1)):
            found = decoder(maps[name])
            errors = np.linalg.norm(np.asarray(found.coords) - centres, axis=-1)
            assert errors.mean() <= wanted, name
            assert not ((np.asarray(found.status) == Status.REFINED) & (errors > 0.5)).any(), name


@pytest.mark.parametrize("sigma", slow_but([3.0], [2.0, 3.0]))
def test_cut_by_an_edge_of_the_map_is_not_refined(sigma: float) -> None:
    """The middle of a cut saturated blob is not the middle of the whole blob."""
    points = synthetic.rng(3).uniform([0, 12], [5, 35], (COUNT, 2))
    maps = np.clip(4 * synthetic.draw(points, SIZE, sigma=sigma), 0, 1).astype(np.float32)
    for turn in range(4):
        turned = np.rot90(maps, turn, axes=(1, 2))
        for decode in (dark_jax.decode, functools.partial(dark_jax.decode_fit, sigma=sigma)):
            found = in_batches(decode, turned, size=COUNT // 3)
            coords = np.asarray(found.coords)
            for _ in range(turn):  # back by a quarter turn
                coords = np.stack([SIZE[0] - 1 - coords[:, 1], coords[:, 0]], axis=-1)
            errors = np.linalg.norm(coords - points, axis=-1)
            assert not ((np.asarray(found.status) == Status.REFINED) & (errors > 0.5)).any(), turn


@pytest.mark.parametrize("length", slow_but([12], [9, 12, 16]))
@pytest.mark.parametrize("thick", [1, 2])
def test_lines_are_right_or_not_refined(length: int, thick: int) -> None:
    maps = np.zeros((1, *SIZE), np.float32)
    maps[0, 20 : 20 + thick, 14 : 14 + length] = 1
    truth = np.array([13.5 + length / 2, 19.5 + thick / 2])
    for decode in DECODERS.values():
        found = decode(maps)
        error = np.linalg.norm(np.asarray(found.coords)[0] - truth)
        assert error < 0.5 or found.status[0] != Status.REFINED


@pytest.mark.parametrize("radius", [3.0, 3.5, 5.0, 6.5])
@pytest.mark.parametrize("half", [0.5, 1.0])
def test_rings_are_right_or_not_refined(radius: float, half: float) -> None:
    """No pixel of a ring is near its middle."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ring = np.abs(np.hypot(x - 20, y - 18) - radius) <= half
    for decode in DECODERS.values():
        found = decode(ring[None].astype(np.float32))
        error = np.linalg.norm(np.asarray(found.coords)[0] - [20, 18])
        assert error < 0.5 or found.status[0] != Status.REFINED


def test_what_counts_as_a_top_is_above_the_background() -> None:
    """A map and its background may both be lowered without changing the fit."""
    y, x = np.mgrid[:64, :64]
    disk = np.hypot(x - 30, y - 30) < 4
    block = np.maximum(np.abs(x - 30), np.abs(y - 30)) <= 12
    maps = np.stack([disk, block]).astype(np.float32)
    found = dark_jax.decode_fit(maps, sigma=2.0)
    lowered = dark_jax.decode_fit(maps - 1, sigma=2.0, background=-1.0)
    np.testing.assert_allclose(lowered.coords, found.coords, atol=1e-4)
    assert found.status.tolist() == [Status.REFINED, Status.NOT_CONCAVE]
    assert lowered.status.tolist() == found.status.tolist()


@pytest.mark.parametrize("side", slow_but([20], [20, 40]))
def test_a_block_wider_than_the_window_is_not_refined(side: int) -> None:
    block = np.zeros((1, 64, 64), np.float32)
    block[0, 10 : 10 + side, 8 : 8 + side] = 1
    found = [
        dark_jax.decode(block),
        dark_jax.decode_fit(block, sigma=2.0),
        dark_jax.decode_fit(block, sigma=2.0, from_blurred=True),
        dark_jax.decode_soft_argmax(block, temperature=0.1, radius=7),
        dark_jax.decode_peaks(block, max_peaks=1, threshold=0.5, min_distance=3),
    ]
    for keypoints in found:
        assert keypoints.status.ravel()[0] == Status.NOT_CONCAVE
