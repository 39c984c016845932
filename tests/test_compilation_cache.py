"""The cache of compiled programs: what is kept, where, and what a truncated entry does."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import pytest

from tests.support import compilation_cache

ROOT = Path(__file__).parents[1]
ONE_TEST = "tests/ops/test_quadratic.py::test_step_and_gradient_at_any_scale[1]"


def test_is_on() -> None:
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert jax.config.jax_compilation_cache_dir == folder  # pyright: ignore[reportAttributeAccessIssue]


def test_is_named_by_jaxlib_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    folder = Path(compilation_cache.environment()["JAX_COMPILATION_CACHE_DIR"])
    assert folder.parent == compilation_cache.ROOT
    assert re.fullmatch(rf"jaxlib-{re.escape(version('jaxlib'))}-[0-9a-f]{{12}}", folder.name)


def test_a_folder_that_is_named_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "mine")
    assert compilation_cache.environment()["JAX_COMPILATION_CACHE_DIR"] == "mine"


@pytest.mark.slow
def test_a_cut_entry_fails_nothing(tmp_path: Path) -> None:
    """A killed process leaves a truncated entry. JAX warns about it and compiles once more."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-n0", *options, ONE_TEST]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    assert run().returncode == 0
    entries = [path for path in tmp_path.iterdir() if path.name.endswith("-cache")]
    assert entries
    for path in entries:
        os.truncate(path, path.stat().st_size // 2)
    assert run().returncode == 0
    strict = run("-W", "error")
    assert strict.returncode == 1
    assert "reading persistent compilation cache" in strict.stdout
