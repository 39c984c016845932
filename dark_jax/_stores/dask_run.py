"""Dask runs a function of many blocks: on threads, on a cluster of its own, or on a given one."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from dark_jax._core import optional

Index = tuple[int, ...]
_T = TypeVar("_T")

# Tasks that dask is told of at once: what it keeps of them does not grow with the store.
WINDOW = 1024
# Bytes of blocks that threads may hold together.
BUDGET = 512 << 20
# Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 30


def in_threads(
    work: Callable[[Index], _T],
    blocks: Iterable[Index],
    done: Callable[[_T], object],
    *,
    size: int,
) -> None:
    """``done(work(block))`` of every block of so many bytes, on threads of this process."""
    threaded: Any = optional.load("dask.threaded", extra="store")
    cores = optional.load("dask.system", extra="store").CPU_COUNT
    threads = max(1, min(cores, BUDGET // size))
    # As dask's own: start, start of the state, before a task, after a task, end.
    callback = (None, None, None, lambda key, result, *state: done(result), None)
    left = iter(blocks)
    # The first block alone: threads that start together would each compile the decoder.
    for index in itertools.islice(left, 1):
        done(work(index))
    # A pool of ours ends with us: after an error or Ctrl-C too, no block is under way any more.
    with ThreadPoolExecutor(threads) as pool:
        while window := [*itertools.islice(left, WINDOW)]:
            tasks = {("block", *index): (functools.partial(work, index),) for index in window}
            threaded.get(tasks, [*tasks], pool=pool, callbacks=[callback])


@contextmanager
def cluster(*, workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of ``workers`` new processes on this machine.

    Raises:
        OSError: there is no scheduler, or it has no worker.
    """
    distributed: Any = optional.load("distributed", extra="store")
    if scheduler is None:
        with (
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as local,
            distributed.Client(local) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"no dask scheduler answers at {scheduler} ({error})") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise OSError(f"the dask scheduler at {scheduler} has no workers") from None
        yield client


def on_cluster(
    client: Any,
    work: Callable[[Index], _T],
    blocks: Iterable[Index],
    done: Callable[[_T], object],
) -> None:
    """``done(work(block))`` of every block, on the workers of a client.

    A worker that dies loses its blocks to the others.

    Raises:
        RuntimeError: a block has cost several workers their lives, or the cluster is gone.
    """
    distributed: Any = optional.load("distributed", extra="store")
    left = iter(blocks)

    def submitted(count: int) -> list[Any]:
        return [client.submit(work, index, pure=False) for index in itertools.islice(left, count)]

    running = distributed.as_completed(submitted(WINDOW), loop=client.loop)
    try:
        for future in running:
            done(future.result())
            running.update(submitted(1))
    except distributed.KilledWorker as error:
        raise RuntimeError(f"workers keep dying ({error})") from error
    except CancelledError as error:
        raise RuntimeError(f"the dask cluster is gone ({error})") from error
