"""Every decoder works on stores. It is given as a function or as a partial of one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, decode_store
from tests.stores.cases import BLOCK, SHAPE, TARGETS, FullError, assert_same, group_of, tree
from tests.support.batches import in_batches

zarr = pytest.importorskip("zarr")
dataset = pytest.importorskip("pyarrow.dataset")
pytest.importorskip("dask")

PEAKS = functools.partial(dark_jax.decode_peaks, threshold=0.2, max_peaks=3)
SOFT = functools.partial(dark_jax.decode_soft_argmax, temperature=0.1, radius=4)


def test_soft_argmax(stores: Path, maps: np.ndarray) -> None:
    decode_store(stores / "maps.npy", stores / "o.zarr", decoder=SOFT)
    found = group_of(stores / "o.zarr")
    assert found.keys() == {"coords", "scores", "status"}
    assert_same(found, in_batches(SOFT, maps, size=BLOCK))
    about = dict(zarr.open_group(stores / "o.zarr", mode="r").attrs)
    assert (about["decoder"], about["temperature"], about["radius"]) == (
        "decode_soft_argmax",
        0.1,
        4,
    )


def test_peaks_have_an_axis_of_slots(stores: Path, maps: np.ndarray) -> None:
    """In a group, the slots are an axis after the joints. In a table, they are instances.

    Empty slots have no row in a table.
    """
    expected = in_batches(PEAKS, maps, size=BLOCK)
    for suffix in TARGETS:
        decode_store(stores / "array.zarr", stores / f"o{suffix}", decoder=PEAKS)
    found = group_of(stores / "o.zarr")
    assert found["scores"].shape == (*SHAPE[:2], 3)
    assert found.keys() == {"coords", "scores", "status"}
    assert_same(found, expected)
    table = dataset.dataset(stores / "o.parquet").to_table().to_pylist()
    places = [(row["image"], row["joint"], row["instance"]) for row in table]
    taken = np.argwhere(np.asarray(expected.found))
    assert sorted(places) == [*map(tuple, taken.tolist())]
    assert 0 < len(taken) < expected.scores.size
    at = np.array(places)
    np.testing.assert_allclose(
        [[row["x"], row["y"]] for row in table], np.asarray(expected.coords)[*at.T], atol=1e-5
    )


def test_peaks_of_images(stores: Path, maps: np.ndarray) -> None:
    """If each image has one map, the slots are instances, and every row has joint 0."""
    np.save(stores / "film.npy", maps[:, 0])
    np.save(stores / "deep.npy", maps[None])
    decode_store(stores / "film.npy", stores / "o.parquet", decoder=PEAKS)
    table = dataset.dataset(stores / "o.parquet").to_table().to_pylist()
    assert {row["joint"] for row in table} == {0}
    assert {row["image"] for row in table} > {0, 10}
    with pytest.raises(ValueError, match=r"or than \[B, J\] beside those of several peaks"):
        decode_store(stores / "deep.npy", stores / "deep.parquet", decoder=PEAKS)


def test_peaks_are_resumed_and_what_is_damaged_is_not_finite(
    stores: Path, full_after: Callable[[int | None], None]
) -> None:
    for suffix in TARGETS:
        source, target = stores / "array.zarr", stores / f"o{suffix}"
        decode_store(source, stores / f"whole{suffix}", decoder=PEAKS)
        full_after(7)
        with pytest.raises(FullError):
            decode_store(source, target, decoder=PEAKS)
        full_after(None)
        other = functools.partial(PEAKS, max_peaks=4)
        with pytest.raises(ValueError, match="another max_peaks: it was 3, now it is 4"):
            decode_store(source, target, decoder=other, resume=True)
        decode_store(source, target, decoder=PEAKS, resume=True)
        assert tree(target) == tree(stores / f"whole{suffix}")
    (stores / "array.zarr" / "c" / "1" / "2" / "0" / "0").write_bytes(b"damaged")
    with pytest.raises(dark_jax.UnreadChunksError) as error:
        decode_store(stores / "array.zarr", stores / "lost.zarr", decoder=PEAKS)
    status = group_of(error.value.kept)["status"]
    assert (status[2:4, 2] == dark_jax.Status.NOT_FINITE).all()
    assert (status[2:4, :2, 0] == dark_jax.Status.REFINED).any()


@pytest.mark.parametrize("shape", [(3, 1), (11, 1, 1), (11, 3, 1), (2,)], ids=str)
def test_a_parameter_of_each_map(stores: Path, maps: np.ndarray, shape: tuple[int, ...]) -> None:
    """Every block takes its part of the parameter, also the last block, which is shorter."""
    sigma = np.linspace(1.8, 2.2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    floor = np.linspace(-0.01, 0.01, 11, dtype=np.float32)[:, None]
    options: dict[str, Any] = {"sigma": sigma, "background": floor, "radius": 5}
    fit = functools.partial(dark_jax.decode_fit, **options)
    decode_store(stores / "maps.npy", stores / "o.zarr", decoder=fit)
    found, expected = group_of(stores / "o.zarr"), fit(maps)
    np.testing.assert_array_equal(found["status"], expected.status)
    np.testing.assert_allclose(found["coords"], expected.coords, atol=1e-5)
    decode_store(stores / "maps.npy", stores / "o.zarr", decoder=fit, resume=True)
    other = functools.partial(fit, sigma=sigma * np.float32(1.01))
    with pytest.raises(ValueError, match="another sigma: it was"):
        decode_store(stores / "maps.npy", stores / "o.zarr", decoder=other, resume=True)


def my_decoder(heatmaps: Any, *, axes: tuple[int, ...] = (-2, -1)) -> Keypoints:
    return dark_jax.decode(heatmaps, axes=axes)


@pytest.mark.parametrize(
    ("decoder", "error", "message"),
    [
        (dark_jax.decode_fit, TypeError, "decoder decode_fit needs sigma: bind it, as functools"),
        (my_decoder, TypeError, r"decoder must be one of dark_jax\.decode, dark_jax\.decode_fit"),
        (dark_jax.decode_simcc, TypeError, "decoder must take the keyword axes"),
        ("fit", TypeError, "decoder must be a function, got 'fit'"),
        (lambda: 0, TypeError, "decoder must be a function of maps, as dark_jax.decode is, got"),
        (
            functools.partial(dark_jax.decode, sigma=2.0),  # pyright: ignore[reportCallIssue]
            TypeError,
            "decoder decode has no parameter 'sigma': it has rule, kernel_size, blur_sigma",
        ),
        (
            functools.partial(dark_jax.decode_fit, sigma=-2.0),
            ValueError,
            "sigma must be a positive, finite number, got -2.0",
        ),
        (
            functools.partial(dark_jax.decode_fit, sigma=np.ones((5, 1)), radius=3),
            ValueError,
            r"sigma must broadcast to \(11, 3, 2\), got shape \(5, 1\)",
        ),
        (
            functools.partial(dark_jax.decode_fit, sigma=np.ones((3, 1))),
            TypeError,
            "radius must be given where sigma differs from map to map",
        ),
    ],
)
def test_what_is_no_decoder(
    stores: Path, decoder: Any, error: type[Exception], message: str
) -> None:
    before = tree(stores)
    with pytest.raises(error, match=message):
        decode_store(stores / "maps.npy", stores / "o.zarr", decoder=decoder)
    assert tree(stores) == before


def test_axes_are_the_decoder_s_or_named(stores: Path, maps: np.ndarray) -> None:
    np.save(stores / "last.npy", np.ascontiguousarray(np.moveaxis(maps, 1, -1)))
    last = functools.partial(dark_jax.decode, axes=(-3, -2))
    decode_store(stores / "last.npy", stores / "a.zarr", decoder=last)
    decode_store(stores / "last.npy", stores / "b.zarr", axes=(-3, -2))
    assert tree(stores / "a.zarr") == tree(stores / "b.zarr")
    decode_store(stores / "last.npy", stores / "a.zarr", decoder=last, axes=(-3, -2), resume=True)
    with pytest.raises(ValueError, match=r"axes must be given once: got axes=\(-2, -1\), and axes"):
        decode_store(stores / "last.npy", stores / "c.zarr", decoder=last, axes=(-2, -1))
