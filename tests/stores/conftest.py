"""Fixtures: the same maps in every kind of store, small blocks, and a disk that fills up."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints
from dark_jax._stores import blocks
from dark_jax._stores.checkpoint import Checkpoint
from tests.stores import cases
from tests.support import synthetic
from tests.support.batches import in_batches


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have two images. There are six blocks, the last of which is shorter."""
    monkeypatch.setattr(blocks, "GOAL", cases.BLOCK * 3 * 24 * 20 * 4)


@pytest.fixture(scope="session")
def maps() -> np.ndarray:
    values, _ = synthetic.gaussians(0, 33, cases.SHAPE[2:], sigma=2.0, noise=0.01)
    values[4] = 0  # no peak
    return values.reshape(cases.SHAPE)


@pytest.fixture(scope="session")
def expected(maps: np.ndarray) -> Keypoints:
    return jax.device_get(dark_jax.decode(maps))


@pytest.fixture(scope="session")
def expected_fit(maps: np.ndarray) -> Keypoints:
    """The fit, one block at a time. A fit of all maps at once would compile for seconds."""
    fit = functools.partial(dark_jax.decode_fit, sigma=2.0)
    return in_batches(fit, maps, size=cases.BLOCK)


@pytest.fixture
def stores(tmp_path: Path, maps: np.ndarray) -> Path:
    """A folder with the same maps in every kind of store."""
    cases.write_stores(tmp_path, maps)
    return tmp_path


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a running scheduler, with a worker in this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """A function that sets how many files of blocks fit on the disk. None means no limit."""
    put, written = Checkpoint._put, []

    def limit(count: int | None) -> None:
        def limited(self: Checkpoint, path: Path, contents: bytes) -> None:
            if path.parent != self.folder:
                if count is not None and len(written) >= count:
                    raise cases.FullError(28, "No space left on device", str(path))
                written.append(path)
            put(self, path, contents)

        written.clear()
        monkeypatch.setattr(Checkpoint, "_put", limited)

    return limit
