"""Decoding in another layout or dimension."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.codecs.test_decode import SIZE, decode, integer_peaks
from tests.support import synthetic, tolerances
from tests.support.batches import in_batches

VOLUME = (9, 9, 9)


def decode_volumes(volumes: np.ndarray) -> dark_jax.Keypoints:
    of_batch = functools.partial(dark_jax.decode, kernel_size=5, axes=(1, 2, 3))
    return in_batches(of_batch, volumes, size=50)


def as_images(keypoints: dark_jax.Keypoints) -> dark_jax.Keypoints:
    """The keypoints of 12 maps as those of 3 images with 4 joints."""
    return jax.tree.map(lambda leaf: leaf.reshape(3, 4, *leaf.shape[1:]), keypoints)


class TestAxes:
    """Another layout or dimension uses the same mathematics."""

    @pytest.mark.parametrize("axes", [(-3, -2), (1, 2), [1, 2], (1, -2), np.array([1, 2])], ids=str)
    def test_channels_last(self, axes: Any) -> None:
        maps, _ = synthetic.gaussians(0, 12, SIZE, sigma=2.0, noise=0.02, margin=0.0)
        maps[1, 3, 4] = np.nan
        expected = as_images(decode(maps))
        channels_last = np.moveaxis(maps.reshape(3, 4, *SIZE), 1, -1)
        found = dark_jax.decode(np.ascontiguousarray(channels_last), axes=axes)
        np.testing.assert_allclose(found.coords, expected.coords, rtol=0, atol=tolerances.COMPILED)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.status, expected.status)

    def test_maps_around_the_other_axes(self) -> None:
        maps, _ = synthetic.gaussians(0, 12, SIZE, sigma=2.0)
        around = np.moveaxis(maps.reshape(3, 4, *SIZE), 2, 0)
        found = dark_jax.decode(around, axes=(0, 3))
        np.testing.assert_array_equal(found.coords, as_images(decode(maps)).coords)

    def test_channels_last_makes_no_copy(self) -> None:
        maps = jax.ShapeDtypeStruct((8, 64, 48, 17), jnp.float32)
        compiled = jax.jit(lambda m: dark_jax.decode(m, axes=(-3, -2))).lower(maps).compile()
        memory: Any = compiled.memory_analysis()
        assert memory.temp_size_in_bytes < 0.25 * 4 * maps.size

    def test_volume_with_a_sigma_an_axis(self) -> None:
        """Thick slices make blobs narrow along z. The error is within a thousandth of a pixel."""
        sigma = np.array([3.0, 2.5, 1.5])
        points = np.array([14.3, 13.6, 9.45]) + synthetic.rng(3).uniform(-1, 1, (6, 3))
        grid = np.stack(np.meshgrid(*map(np.arange, (19, 28, 30)), indexing="ij")[::-1], axis=-1)
        squared = (((grid - points[:, None, None, None]) / sigma) ** 2).sum(-1)
        volumes = np.exp(-0.5 * squared).astype(np.float32)
        found = dark_jax.decode(volumes, blur_sigma=(1.5, 1.25, 1.0), axes=(-3, -2, -1))
        assert (np.asarray(found.status) == Status.REFINED).all()
        np.testing.assert_allclose(found.coords, points, rtol=0, atol=1e-3)

    def test_volume_borders(self) -> None:
        """Along each axis, the peaks are just too near the first or the last border."""
        places = np.full((6, 3), 4)
        places[np.arange(6), [0, 0, 1, 1, 2, 2]] = [1, 7] * 3
        volumes = np.zeros((6, *VOLUME), np.float32)
        volumes[np.arange(6), *places.T] = 1
        found = decode_volumes(volumes)
        assert (np.asarray(found.status) == Status.BORDER).all()
        np.testing.assert_array_equal(found.coords, places[:, ::-1])

    def test_volume_guards(self) -> None:
        """On noise, no step leaves the neighbourhood, and every reason occurs."""
        volumes = synthetic.rng(0).random((300, *VOLUME)).astype(np.float32)
        found = decode_volumes(volumes)
        status = np.asarray(found.status)
        moved = np.linalg.norm(found.coords - integer_peaks(volumes), axis=-1)
        assert moved.max() <= 3 + 1e-5
        assert (moved[status != Status.REFINED] == 0).all()
        assert {*status.tolist()} == {0, 3, 4, 5}

    def test_rows(self) -> None:
        """The error is within a thousandth of a pixel in the interior."""
        points = synthetic.rng(1).uniform(10, 30, (6, 1))
        rows = synthetic.draw(np.pad(points, [(0, 0), (0, 1)]), (1, 41), sigma=2.0)[:, 0]
        found = dark_jax.decode(rows.astype(np.float32), axes=(-1,), kernel_size=7)
        assert found.coords.shape == (6, 1)
        assert (np.asarray(found.status) == Status.REFINED).all()
        np.testing.assert_allclose(found.coords, points, rtol=0, atol=1e-3)

    @pytest.mark.parametrize(
        ("axes", "error", "message"),
        [
            ((-1, -2), ValueError, "axes must be in increasing order"),
            ((1, 1), ValueError, "axes must be in increasing order"),
            ((-4, -1), ValueError, r"heatmaps must have axes \(-4, -1\), got shape \(3, 8, 8\)"),
            ((), ValueError, "axes must be one to three axes"),
            ((0, 1, 2, 3), ValueError, "axes must be one to three axes"),
            (-1, TypeError, "axes must be one to three axes"),
            ("xy", TypeError, "axes must be one to three axes"),
            ((0.0, 1.0), TypeError, "axes must be one to three axes"),
        ],
    )
    def test_bad_axes_are_named(self, axes: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            dark_jax.decode(np.ones((3, 8, 8)), axes=axes)

    def test_sigma_for_each_axis_is_counted(self) -> None:
        with pytest.raises(ValueError, match="blur_sigma must be one number, or one for e"):
            dark_jax.decode(np.ones((8, 8)), blur_sigma=(1.0, 1.0, 1.0))
