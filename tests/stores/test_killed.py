"""Stores under violence: killed runs, killed workers, Ctrl-C, and gigabytes."""

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

# A block a chunk, as small as may be, so that there is much to kill.
SMALL = "from dark_jax._stores import blocks; blocks.GOAL = 1; "
# So slow that it is still at work when a busy machine gets to kill it; dask's workers stay fast.
SLOW = SMALL + (
    "import time; from dark_jax._stores.checkpoint import Checkpoint; put = Checkpoint._put; "
    "Checkpoint._put = lambda *each: (time.sleep(0.01), put(*each)); "
)
# Whoever runs the tests in the background of a shell has taught them to ignore Ctrl-C.
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
KILLS = int(os.environ.get("DARK_JAX_KILLS", "6"))  # 50 for the figures of a release
PROCESSES = ("--workers", "2")
# Exit status of a run that ends by a signal.
ENDS = {signal.SIGKILL: -9, signal.SIGTERM: -15, signal.SIGINT: 130}
TIMEOUT = 120.0
# Without a blur: every process compiles its program for itself.
DECODER = functools.partial(decode, rule=rules.HRNET)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred chunks."""
    values, _ = synthetic.gaussians(0, 200, (24, 20), sigma=2.0, noise=0.01)
    path = tmp_path_factory.mktemp("source") / "maps.zarr"
    array = zarr.create_array(path, shape=(1600, 5, 24, 20), chunks=(4, 5, 24, 20), dtype="f4")
    for start in range(0, 1600, 40):
        array[start : start + 40] = np.roll(values, start, 0).reshape(40, 5, 24, 20)
    return path


@pytest.fixture(scope="module")
def whole(source: Path) -> dict[str, dict[str, bytes]]:
    """The files of uninterrupted runs, by the suffix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "GOAL", 1)
        for suffix in TARGETS:
            decode_store(source, source.with_name(f"whole{suffix}"), decoder=DECODER)
    return {suffix: tree(source.with_name(f"whole{suffix}")) for suffix in TARGETS}


def command(source: Path, target: Path, *options: str) -> list[object]:
    return ["decode", source, "-o", target, "--rule", "HRNET", *options]


def started(code: str, *arguments: object, cache: bool = False) -> subprocess.Popen[str]:
    """With ``cache``, the compiled programs on disk: of processes that nobody kills."""
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
    """Until so many are there, or the run has ended."""
    end = time.monotonic() + TIMEOUT
    while blocks_there(target) < count and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr; nothing of its session is left."""
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
    """At random points, threads and processes; the bytes are an uninterrupted run's."""
    target, random = tmp_path / f"out{suffix}", synthetic.rng(10 * sign + len(workers))
    kills = KILLS // 2 if workers else KILLS
    counts = []
    for _ in range(kills):
        before = blocks_there(target)
        process = started(SLOW + COMMAND, *command(source, target, "--resume", *workers))
        wait_for_blocks(process, target, before + int(random.integers(1, 240 // KILLS + 1)))
        time.sleep(random.uniform(0, 0.02))
        # Ctrl-C is a terminal's, to the whole group; others hit the run alone.
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
    """As a terminal sends it, to the whole group: one line, no process left, resumable.

    What dask's own processes say on their way out is theirs.
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
    """The job completes, with the same bytes as from threads."""
    monkeypatch.setattr(blocks, "GOAL", 1)
    for name, value in compilation_cache.OFF.items():
        monkeypatch.setenv(name, value)  # the workers'
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
    """Half a GB and 2 GB, which take no place on the disk.

    The large one first: it is the one that may have to compile, which takes memory too.
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
    """Of beginning, committing, finishing and clearing up: the next run completes them."""
    command = [sys.executable, "-m", "tests.stores.every_line", suffix, scenario, str(tmp_path)]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 200


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Callable[[int], None]]:
    """A file system of its own, and a function that gives it so many pages of 4 KB."""
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
    """One page more each time: an error that says so, and resumed to the same bytes."""
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
    """One writes and the others are told so; a script that calls again until it is done ends."""
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
    """It takes its share of a run that has begun without it."""
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
    """The run ends and says so; what is done is kept."""
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
