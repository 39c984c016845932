"""Compile every decoder for an H100, on a machine without one, and count what it would run.

XLA's own compiler makes the code, and nothing is executed.
"""

import collections
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from tests.benchmarks import hlo
from tests.benchmarks.decoders import PROGRAMS, SHAPE, bare_max

# A description of the device, from XLA's own specifications.
H100 = Path(__file__).parent / "h100.txtpb"
ABSENT = "XLA's CUDA compiler is not installed: pip install --group kernels"


@functools.cache
def h100() -> NamedSharding:
    """The device that programs are compiled for.

    Raises:
        ImportError: the compiler is not installed.
    """
    # Without this variable, the compiler is not found on a machine without a driver.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=H100.read_text(), topology="1x1x1"
        )
    except NotImplementedError as error:  # JAX raises this if no plugin has the compiler
        raise ImportError(ABSENT) from error
    return NamedSharding(topologies.make_mesh(topology, (1,), ("x",)), PartitionSpec())


def compiled(
    function: Callable[..., Any], shape: tuple[int, ...] = SHAPE, dtype: Any = jnp.float32
) -> Any:
    """Compile a function of one array of maps for an H100."""
    maps = jax.ShapeDtypeStruct(shape, dtype, sharding=h100())
    return jax.jit(function).lower(maps).compile()


def rows() -> list[dict[str, Any]]:
    """One row per decoder, and one for the bare maximum, with which all are compared."""
    functions = {"jnp.max": bare_max, **PROGRAMS}
    return [_row(name, function) for name, function in functions.items()]


def _row(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    program = compiled(function)
    found = hlo.parsed(program.as_text())
    maps = 4 * math.prod(SHAPE)
    return {
        "function": name,
        "kernels": len(found.kernels()),
        "that read all of the maps": len(found.readers()),
        "temporaries": f"{100 * program.memory_analysis().temp_size_in_bytes / maps:.1f} %",
        "custom calls": _counted(found.custom_calls()),
        "products": _counted(found.precisions()),
        "branches and loops": _counted(
            each.op for each in found.kernels() if each.op in ("conditional", "while")
        ),
    }


def _counted(names: Any) -> str:
    counts = collections.Counter(names)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def stamp() -> str:
    [target] = h100().device_set
    return f"compiled for {target.device_kind} by jax {jax.__version__}, not run"
