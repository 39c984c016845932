"""A function of many blocks, on the threads of this process or on the workers of a dask cluster."""

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

# Blocks that an executor is told of at once: what it keeps of them does not grow with the store.
WINDOW = 1024
# Bytes of blocks that threads may hold together.
BUDGET = 512 << 20
# Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 30


def each(
    executor: Executor,
    work: Callable[[Index], _T],
    blocks: Iterable[Index],
    done: Callable[[_T], object],
) -> None:
    """``done(work(block))`` of every block: ``work`` wherever the executor runs, ``done`` here.

    Raises:
        RuntimeError: the executor has given up, as a cluster does that is gone.
    """
    # as_completed and map want all blocks at once, and keep their futures.
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
            raise RuntimeError("the dask cluster is gone; resume=True goes on") from error
        running -= 1


@contextmanager
def threads(*, size: int) -> Iterator[Executor]:
    """Threads of this process, as many as cores, or as hold their blocks of so many bytes."""
    cores = optional.load("dask.system", extra="store").CPU_COUNT
    pool = ThreadPoolExecutor(max(1, min(cores, BUDGET // size)))
    try:
        yield pool
    finally:
        # After an error or Ctrl-C too, no block is under way any more.
        pool.shutdown(cancel_futures=True)


@contextmanager
def cluster(*, workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    """The scheduler at an address, or ``workers`` new processes on this machine.

    A worker that dies loses its blocks to the others.

    Raises:
        OSError: there is no scheduler, or it has no worker.
        ValueError: the address is none.
        RuntimeError: a block has cost several workers their lives, or none has started.
    """
    distributed: Any = optional.load("distributed", extra="store")
    with _client(distributed, workers=workers, scheduler=scheduler) as client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except distributed.KilledWorker as error:
            raise RuntimeError(f"workers keep dying ({error}); resume=True goes on") from error
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _client(distributed: Any, *, workers: int | None, scheduler: str | None) -> Iterator[Any]:
    if scheduler is None:
        try:
            local = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",  # not to the network, not on a port in use
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
        if not scheduler.startswith("inproc://"):  # which has no host
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
