"""Run a function on many blocks, in threads of this process or on the workers of a cluster."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from dark_jax._core import optional

Index = tuple[int, ...]
_T = TypeVar("_T")

# The most blocks that an executor has at once, so that its memory does not grow with the store.
WINDOW = 1024
# The most bytes of blocks that all threads together may hold.
BUDGET = 512 << 20
# Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 30


def each(
    executor: Executor,
    work: Callable[[Index], _T],
    blocks: Iterable[Index],
    done: Callable[[_T], object],
) -> None:
    """Call ``done(work(block))`` for each block: ``work`` in the executor, ``done`` in this thread.

    Raises:
        RuntimeError: the executor has cancelled the work, as happens when a cluster is gone.
    """
    # as_completed and map need all blocks at once, and keep all futures in memory.
    finished: SimpleQueue[Future[_T]] = SimpleQueue()
    left, running = iter(blocks), 0
    while True:
        for index in itertools.islice(left, WINDOW - running):
            executor.submit(work, index).add_done_callback(finished.put)
            running += 1
        if not running:
            return
        try:
            done(finished.get().result())
        except CancelledError as error:
            raise RuntimeError("the dask cluster is gone; continue with resume=True") from error
        running -= 1


@contextmanager
def threads(*, size: int) -> Iterator[Executor]:
    """Yield a pool of one thread per core, or fewer to hold at most ``BUDGET`` bytes of blocks."""
    cores = optional.load("dask.system", extra="store").CPU_COUNT
    pool = ThreadPoolExecutor(max(1, min(cores, BUDGET // size)))
    try:
        yield pool
    finally:
        # Wait until no block is running any more, also after an error or Ctrl-C.
        pool.shutdown(cancel_futures=True)


@contextmanager
def cluster(*, workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    """Yield an executor of the scheduler at an address, or of ``workers`` new local processes.

    If a worker dies, the other workers take over its blocks.

    Raises:
        OSError: no scheduler answers, or it has no worker.
        ValueError: ``scheduler`` is not an address.
        RuntimeError: several workers died on the same block, or no worker started.
    """
    distributed: Any = optional.load("distributed", extra="store")
    with _client(distributed, workers=workers, scheduler=scheduler) as client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except distributed.KilledWorker as error:
            raise RuntimeError(
                f"workers keep dying ({error}); continue with resume=True"
            ) from error
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _client(distributed: Any, *, workers: int | None, scheduler: str | None) -> Iterator[Any]:
    if scheduler is None:
        try:
            local = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",  # hidden from the network, on a free port
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            raise RuntimeError(
                f"workers={workers} did not start ({error}): a Python script must call "
                'decode_store under its if __name__ == "__main__":'
            ) from error
        with local, distributed.Client(local) as client:
            yield client
        return
    try:
        if not scheduler.startswith("inproc://"):  # an inproc address has no host
            optional.load("distributed.comm", extra="store").get_address_host_port(scheduler)
    except ValueError as error:
        raise ValueError(
            f"scheduler must be an address, such as 'tcp://host:8786', got {scheduler!r} ({error})"
        ) from error
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
