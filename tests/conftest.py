"""Configure all tests: strict promotion, four virtual devices, a cache of compiled programs."""

import gc
import os
from pathlib import Path

from tests.support import compilation_cache

os.environ.update(compilation_cache.environment())

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# JAX keeps millions of objects alive. To look through them for garbage less often saves 5 % of the
# time of the tests.
gc.set_threshold(200_000, 50, 1000)

REAL_MAPS = "DARK_JAX_OPENFIELD"


@pytest.fixture(scope="session")
def sample_heatmaps() -> np.ndarray:
    """The shipped sample, ``[1, 18, 32, 32]``: heatmaps of a real network for a real photograph."""
    from dark_jax import samples

    return samples.load().heatmaps


@pytest.fixture(
    scope="session",
    params=["heatmaps_s32_sig1", "heatmaps_s64_sig1.5", "heatmaps_s128_sig2"],
)
def openfield_heatmaps(request: pytest.FixtureRequest) -> np.ndarray:
    """Predictions on real frames, from a folder without a licence that allows committing it."""
    folder = os.environ.get(REAL_MAPS)
    if not folder:
        pytest.skip(f"{REAL_MAPS} does not name the folder of the openfield heatmaps")
    return np.load(Path(folder) / f"{request.param}.npz")["heatmaps"]
