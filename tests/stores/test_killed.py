"""Stores survive killed runs, killed workers, Ctrl-C, full disks and gigabytes of maps."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dark_jax import decode, decode_store, rules
from dark_jax._stores import blocks
from tests.stores.cases import TARGETS, tree
from tests.support import compilation_cache, synthetic

zarr = pytest.importorskip("zarr")
distributed = pytest.importorskip("distributed")
pytest.importorskip("pyarrow")
pytest.importorskip("click")

pytestmark = pytest.mark.slow

# Each block is one chunk, the smallest possible, so that there are many blocks to kill at.
SMALL = "from dark_jax._stores import blocks; blocks.GOAL = 1; "
# Slow the run down, so that a busy machine can kill it before it ends. Dask's workers stay fast.
SLOW = SMALL + (
    "import time; from dark_jax._stores.checkpoint import Checkpoint; put = Checkpoint._put; "
    "Checkpoint._put = lambda *each: (time.sleep(0.01), put(*each)); "
)
# A process in the background of a shell ignores Ctrl-C, so this restores the default.
COMMAND = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from dark_jax import _cli; sys.exit(_cli.run(sys.argv[1:]))"
)
SCHEDULER = """
import distributed, signal, time
if __name__ == "__main__":
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    )
    print(cluster.scheduler_address, flush=True)
    time.sleep(600)
"""
KILLS = int(os.environ.get("DARK_JAX_KILLS", "4"))  # the figures of a release use 50
PROCESSES = ("--workers", "2")
# The exit status of a run, by the signal that ends it.
ENDS = {signal.SIGKILL: -9, signal.SIGTERM: -15, signal.SIGINT: 130}
TIMEOUT = 120.0
# Every process compiles its own program, so the tests use a rule that compiles fast.
DECODER = functools.partial(decode, rule=rules.HRNET)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Zarr array of 400 chunks."""
    values, _ = synthetic.gaussians(0, 200, (24, 20), sigma=2.0, noise=0.01)
    path = tmp_path_factory.mktemp("source") / "maps.zarr"
    array = zarr.create_array(path, shape=(1600, 5, 24, 20), chunks=(4, 5, 24, 20), dtype="f4")
    for start in range(0, 1600, 40):
        array[start : start + 40] = np.roll(values, start, 0).reshape(40, 5, 24, 20)
    return path


@pytest.fixture(scope="module")
def whole(source: Path) -> dict[str, dict[str, bytes]]:
    """The files of uninterrupted runs, by suffix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "GOAL", 1)
        for suffix in TARGETS:
            decode_store(source, source.with_name(f"whole{suffix}"), decoder=DECODER)
    return {suffix: tree(source.with_name(f"whole{suffix}")) for suffix in TARGETS}


def command(source: Path, target: Path, *options: str) -> list[object]:
    return ["decode", source, "-o", target, "--rule", "HRNET", *options]


def started(code: str, *arguments: object, cache: bool = False) -> subprocess.Popen[str]:
    """Start Python. ``cache`` uses compiled programs on disk, for runs that are not killed."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **({} if cache else compilation_cache.OFF), "JAX_PLATFORMS": "cpu"},
        start_new_session=True,
    )


def blocks_there(target: Path) -> int:
    result = target.with_name(f"{target.name}.incomplete") / "result"
    names = "status/c.*" if target.suffix == ".zarr" else "*.parquet"
    return len([*result.glob(names)])


def wait_for_blocks(process: subprocess.Popen[str], target: Path, count: int) -> None:
    """Wait until ``count`` blocks are there, or the run has ended."""
    end = time.monotonic() + TIMEOUT
    while blocks_there(target) < count and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit status, stdout and stderr. Fail if processes of the session are left."""
    out = err = ""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        pytest.fail("processes are left")
    except ProcessLookupError:
        return process.returncode, out, err
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("sign", "suffix", "workers"),
    [
        (signal.SIGKILL, ".parquet", ()),
        (signal.SIGTERM, ".zarr", ()),
        (signal.SIGINT, ".parquet", ()),
        (signal.SIGKILL, ".zarr", PROCESSES),
        (signal.SIGTERM, ".parquet", PROCESSES),
        (signal.SIGINT, ".zarr", PROCESSES),
    ],
)
def test_kill_and_resume(
    source: Path,
    whole: dict[str, dict[str, bytes]],
    tmp_path: Path,
    sign: signal.Signals,
    suffix: str,
    workers: tuple[str, ...],
) -> None:
    """Runs of threads or processes are killed at random points, and the last one completes.

    The bytes of the results equal those of an uninterrupted run.
    """
    target, random = tmp_path / f"out{suffix}", synthetic.rng(10 * sign + len(workers))
    kills = KILLS // 2 if workers else KILLS
    counts = []
    for _ in range(kills):
        before = blocks_there(target)
        process = started(SLOW + COMMAND, *command(source, target, "--resume", *workers))
        wait_for_blocks(process, target, before + int(random.integers(1, 240 // KILLS + 1)))
        time.sleep(random.uniform(0, 0.02))
        # A terminal sends Ctrl-C to the whole group. Other signals go only to the run.
        os.kill(-process.pid if sign == signal.SIGINT else process.pid, sign)
        status, _, err = end(process)
        assert status == ENDS[sign], (err, counts)
        assert not target.exists()
        counts.append(blocks_there(target))
    assert counts == sorted(counts)
    last = started(SMALL + COMMAND, *command(source, target, "--resume"), cache=True)
    status, out, err = end(last)
    assert (status, out, err) == (0, f"wrote {target}\n", "")
    assert tree(target) == whole[suffix]


@pytest.mark.parametrize("workers", [(), PROCESSES])
def test_ctrl_c(
    source: Path, whole: dict[str, dict[str, bytes]], tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """Ctrl-C prints one line and leaves no process, and the run can be resumed.

    A terminal sends it to the whole group, so dask's own processes may print lines too.
    """
    target = tmp_path / "out.zarr"
    process = started(SLOW + COMMAND, *command(source, target, *workers))
    wait_for_blocks(process, target, 20)
    os.killpg(process.pid, signal.SIGINT)
    status, out, err = end(process)
    assert status == 130
    assert out == ""
    line = "dark-jax: interrupted; continue with --resume\n"
    assert err.endswith(line) if workers else err == line
    assert not target.exists()
    last = started(SMALL + COMMAND, *command(source, target, "--resume"), cache=True)
    assert end(last)[0] == 0
    assert tree(target) == whole[".zarr"]


def test_killed_worker(
    source: Path,
    whole: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run completes without the killed worker, with the same bytes as from threads."""
    monkeypatch.setattr(blocks, "GOAL", 1)
    for name, value in compilation_cache.OFF.items():
        monkeypatch.setenv(name, value)  # for the workers
    killed: list[int] = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        processes = list(client.run(os.getpid).values())

        def kill(done: int, total: int) -> None:
            if done > 1000 and len(killed) < 1:
                killed.append(processes[0])
                os.kill(processes[0], signal.SIGKILL)

        address = cluster.scheduler_address
        decode_store(
            source, tmp_path / "out.zarr", decoder=DECODER, scheduler=address, progress=kill
        )
    assert killed
    assert tree(tmp_path / "out.zarr") == whole[".zarr"]


MEASURE = """
import sys
from pathlib import Path
import dark_jax
dark_jax.decode_store(sys.argv[1], sys.argv[2])
# The peak since exec; that of getrusage begins with the parent it was forked from.
print([line.split()[1] for line in Path("/proc/self/status").open() if "VmHWM" in line][0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("name", ["maps.zarr", "maps.npy"])
def test_memory_does_not_grow_with_the_store(tmp_path: Path, name: str) -> None:
    """The stores have 0.5 GB and 2 GB, and use no disk space.

    The large one is first, because the first run may have to compile, which needs memory too.
    """
    peaks = []
    for images in (9_600, 2_400):  # of 17 x 64 x 48 floats
        path = tmp_path / str(images) / name
        path.parent.mkdir()
        shape = (images, 17, 64, 48)
        if name == "maps.npy":
            mapped = np.lib.format.open_memmap(path, mode="w+", dtype="f4", shape=shape)
            del mapped  # never written to
        else:
            zarr.create_array(path, shape=shape, chunks=(64, *shape[1:]), dtype="f4")
        status, out, err = end(started(MEASURE, path, path.parent / "out.zarr", cache=True))
        assert (status, err) == (0, "")
        peaks.append(int(out) / 1024)
    large, small = peaks
    assert large < small + 100, peaks
    assert large < 1000, peaks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that it forks")
@pytest.mark.parametrize(
    ("suffix", "scenario"), [(".zarr", "new"), (".parquet", "overwrite"), (".parquet", "restart")]
)
def test_killed_at_every_line(tmp_path: Path, suffix: str, scenario: str) -> None:
    """A run is killed at every line that begins, commits, finishes or deletes results.

    The next run completes them.
    """
    command = [sys.executable, "-m", "tests.stores.every_line", suffix, scenario, str(tmp_path)]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 200


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Callable[[int], None]]:
    """Mount a file system at ``path``, and yield a function that sets its pages of 4 KB."""
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", path], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a tmpfs needs the superuser")
    try:
        yield (
            lambda pages: (
                subprocess.run(["mount", "-o", f"remount,size={4 * pages}k", path], check=True)
                and None
            )
        )
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("suffix", TARGETS)
def test_full_disk_at_every_write(tmp_path: Path, suffix: str) -> None:
    """A full disk is an error that says so, and the resumed run has the same bytes.

    The disk has one page more each time.
    """
    maps, _ = synthetic.gaussians(0, 4, (24, 20), sigma=2.0, noise=0.01)
    source = tmp_path / "maps.npy"
    np.save(source, maps)
    with small_disk(tmp_path / "disk") as resized, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "GOAL", 1)
        target, whole = tmp_path / "disk" / f"out{suffix}", tmp_path / f"whole{suffix}"
        decode_store(source, whole, decoder=DECODER)
        for pages in range(1, 100):
            resized(pages)
            try:
                decode_store(source, target, decoder=DECODER)
                assert pages > 8
                break
            except OSError as error:
                told = str(error)
            assert "No space left on device" in told
            assert str(target.parent) in told
            assert not target.exists()
            resized(1000)
            decode_store(source, target, decoder=DECODER, resume=True)
            assert tree(target) == tree(whole)
            shutil.rmtree(target)
            assert not [*target.parent.iterdir()]
        assert tree(target) == tree(whole)


def test_four_processes_on_one_target(
    source: Path, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """One process writes, and the errors of the others say so.

    So a script that repeats the call until it succeeds comes to an end.
    """
    target = tmp_path / "out.zarr"
    running = [
        started(SMALL + COMMAND, *command(source, target, "--resume"), cache=True) for _ in range(4)
    ]
    ends = [end(process) for process in running]
    assert (0, f"wrote {target}\n", "") in ends
    for status, _, err in ends:
        assert status == 0 or "is being written by another run: wait" in err, err
    assert tree(target) == whole[".zarr"]
    assert not target.with_name("out.zarr.incomplete").exists()


def test_a_worker_that_is_added(
    source: Path,
    whole: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new worker takes its share of a run that began without it."""
    monkeypatch.setattr(blocks, "GOAL", 1)
    added: list[int] = []
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:

        def add(done: int, total: int) -> None:
            if done > 200 and not added:
                added.append(done)
                cluster.scale(2)

        address = cluster.scheduler_address
        decode_store(
            source, tmp_path / "out.zarr", decoder=DECODER, scheduler=address, progress=add
        )
        workers = len(cluster.scheduler_info["workers"])
    assert added
    assert workers == 2
    assert tree(tmp_path / "out.zarr") == whole[".zarr"]


def test_a_scheduler_that_goes(
    source: Path, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """The run ends with an error that says so, and finished blocks are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "GOAL", 1)
        scheduler = started(SCHEDULER, cache=True)
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().strip()

        def kill(done: int, total: int) -> None:
            if done > 1000 and scheduler.poll() is None:
                os.killpg(scheduler.pid, signal.SIGKILL)

        target = tmp_path / "out.zarr"
        with pytest.raises(RuntimeError, match="the dask cluster is gone"):
            decode_store(source, target, decoder=DECODER, scheduler=address, progress=kill)
        end(scheduler)
        decode_store(source, target, decoder=DECODER, resume=True)
    assert tree(target) == whole[".zarr"]
