"""Two processes each decode their part of a batch, as two hosts of a pod do."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.contracts.decoders import (
    CHOOSING,
    COLLECTIVE,
    FIRST,
    FUNCTIONS,
    KINDS,
    assert_as_on_one_device,
    assert_same,
    maps,
)
from tests.support import compilation_cache

ROOT = Path(__file__).parents[2]

PROCESSES, DEVICES = 2, 2
BATCH, JOINTS = 8, 3
# In seconds. The test takes 30 s if nothing else runs on the two cores.
LIMIT = 300


def worker(port: str, process: str, folder: str) -> None:
    """Run one of the two processes. The first one saves the results of both."""
    from jax.experimental import multihost_utils

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.distributed.initialize(
        f"localhost:{port}", PROCESSES, int(process), initialization_timeout=LIMIT // 5
    )
    assert len(jax.devices()) == PROCESSES * DEVICES
    mesh = jax.make_mesh((PROCESSES * DEVICES,), ("batch",), axis_types=(AxisType.Auto,))
    heatmaps = np.load(f"{folder}/heatmaps.npy", mmap_mode="r")
    mine = np.split(heatmaps, PROCESSES)[jax.process_index()]
    sharded = jax.make_array_from_process_local_data(NamedSharding(mesh, P("batch")), mine)
    for name in KINDS:
        function = FUNCTIONS[name]
        if name in CHOOSING:
            function = jax.shard_map(function, mesh=mesh, in_specs=P("batch"), out_specs=P("batch"))
        program = jax.jit(function).lower(sharded).compile()
        assert not COLLECTIVE.findall(program.as_text() or "")
        found = multihost_utils.process_allgather(program(sharded), tiled=True)
        if jax.process_index() == 0:
            np.savez(f"{folder}/{name}.npz", *jax.tree.leaves(found))
    jax.distributed.shutdown()


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    values = maps(BATCH, JOINTS)
    np.save(tmp_path / "heatmaps.npy", values)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.contracts.test_distributed", str(port)]
    environment = {**os.environ, **compilation_cache.OFF}  # the test may kill the processes
    running = [
        subprocess.Popen([*command, str(process), str(tmp_path)], cwd=ROOT, env=environment)
        for process in range(PROCESSES)
    ]
    end = time.monotonic() + LIMIT
    try:
        # If one process fails, the other one waits for it.
        while any(one.poll() is None for one in running):
            assert not any(one.poll() for one in running)
            assert time.monotonic() < end, f"not done within {LIMIT} s"
            time.sleep(0.1)
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert [one.returncode for one in running] == [0, 0]
    for name in KINDS:
        with np.load(tmp_path / f"{name}.npz") as arrays:
            found, expected = [*arrays.values()], jax.tree.leaves(FUNCTIONS[name](values))
            assert_same(found, expected)
            if name in (*FIRST, "fit"):
                assert_as_on_one_device(name, found, expected)


if __name__ == "__main__":
    worker(*sys.argv[1:])
