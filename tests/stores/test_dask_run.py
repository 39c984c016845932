"""Blocks run in threads, on a given scheduler, or in new workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dark_jax import decode_store
from dark_jax._stores import dask_run
from tests.stores.cases import tree

pytest.importorskip("distributed")
pytest.importorskip("zarr")
pytest.importorskip("h5py")


def test_progress(stores: Path) -> None:
    told: list[tuple[int, int]] = []
    decode_store(
        stores / "maps.npy", stores / "out.zarr", progress=lambda *numbers: told.append(numbers)
    )
    assert (told[0], told[-1]) == ((0, 33), (33, 33))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) == 7


def test_on_a_scheduler(stores: Path, scheduler: str) -> None:
    """The results have the same bytes as from threads, and the scheduler keeps running."""
    decode_store(stores / "maps.h5", stores / "threads.zarr")
    for _ in range(2):
        decode_store(stores / "maps.h5", stores / "out.zarr", scheduler=scheduler, overwrite=True)
    assert tree(stores / "out.zarr") == tree(stores / "threads.zarr")


def test_no_scheduler(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_run, "PATIENCE", 0.5)
    with pytest.raises(OSError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:1 "):
        decode_store(stores / "maps.npy", stores / "o.zarr", scheduler="tcp://127.0.0.1:1")
    assert not (stores / "o.zarr.incomplete").exists()


@pytest.mark.parametrize("address", ["foo://host:8786", "host", "tcp://host"])
def test_no_address(stores: Path, address: str) -> None:
    """The error is raised at once, without waiting for a scheduler."""
    with pytest.raises(ValueError, match=rf"scheduler must be an address, .*, got '{address}' \("):
        decode_store(stores / "maps.npy", stores / "o.zarr", scheduler=address)
    assert not (stores / "o.zarr.incomplete").exists()


@pytest.mark.slow
def test_workers_of_a_script_without_a_guard(stores: Path) -> None:
    """Each worker begins the script again. The error must not look like a fault of dask."""
    script = stores / "script.py"
    script.write_text("import dark_jax\ndark_jax.decode_store('maps.npy', 'o.zarr', workers=1)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, str(script)],
        cwd=stores,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 1
    assert "RuntimeError: workers=1 did not start" in found.stderr
    assert 'must call decode_store under its if __name__ == "__main__":' in found.stderr
    assert not (stores / "o.zarr").exists()
    assert not (stores / "o.zarr.incomplete").exists()
