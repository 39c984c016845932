"""JAX's cache of compiled programs on disk, for the tests and the processes that they start.

JAX writes an entry without a lock and not atomically. A process that is killed while it writes
leaves a truncated entry, and JAX warns about this entry in every later run. So processes that a
test kills run without the cache (:data:`OFF`), and the warning is not an error
(``pyproject.toml``).
"""

import hashlib
import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2] / ".jax_cache"
OFF = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


def environment() -> dict[str, str]:
    """The variables to set before ``import jax``. Variables that are already set stay.

    The cache keeps every program, however fast it was compiled.
    """
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / _machine()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def _machine() -> str:
    """A name for the jaxlib and the processor, because the entries are machine code."""
    told = [platform.machine(), platform.processor()]
    with suppress(OSError):
        # Use the model and the instruction sets, but not the clock, which changes at every read.
        lines = {*Path("/proc/cpuinfo").read_text().splitlines()}
        told += sorted(n for n in lines if n.startswith(("flags", "Features", "model name")))
    processor = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
    return f"jaxlib-{version('jaxlib')}-{processor}"
