"""Compare the answers of an accelerator with those of the CPU, and measure its times.

The device is the one that JAX finds. All is done within five minutes, and a row says so if there
was no time for it. Only JAX, NumPy and chex are needed.
"""

import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from tests.benchmarks import agreement, speed
from tests.benchmarks.decoders import PROGRAMS, SHAPE, bare_max
from tests.benchmarks.timing import installed, interleaved, processor

Shape = tuple[int, ...]
Row = dict[str, Any]
Device = Any  # jax.Device

SHAPES = ((1, 17, 64, 48), SHAPE, (1024, 17, 64, 48), (2, 308, 256, 192))
DTYPES = ("float32", "bfloat16")
# These functions are timed at every shape. The others are timed at the shape of the comparison.
TIMED = ("decode", "fit", "soft argmax", "peaks")
DIFFERENTIATED = (
    *("decode", "fit", "soft argmax", "soft argmax window", "peaks", "get_final_preds"),
    "gaussian_blur",
)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "jnp.max": bare_max,
    **PROGRAMS,
    **{f"gradient of {name}": agreement.gradient(PROGRAMS[name]) for name in DIFFERENTIATED},
}

# The seconds after which a table begins nothing new, and the share of them for compiling.
COMPARING, TIMING = 165.0, 115.0
COMPILING = 0.75
# At most QUEUE calls in a row wait behind FRONT seconds of work. JAX lets 32 wait for a GPU.
QUEUE = 20
FRONT = 0.02
SIDE = 4096
# The seconds that the runs of one shape may take, and the least and the most runs.
SECONDS, FEWEST, MOST = 1.0, 3, 101

OVER: Row = {"fault": "not run: the time was over"}
COLUMNS = (
    *("us", "/ max", "/ copy to host", "queue", "alone, us", "alone / max"),
    *("temporaries / maps", "fault"),
)
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "jax-rocm7-plugin", "libtpu")

Program = Any  # jax.stages.Compiled: takes and returns what the function does
Job = tuple[str, Shape, str]


def device() -> Device:
    """The device that JAX computes on.

    Raises:
        RuntimeError: there is a plugin for an accelerator, but JAX has not found one.
    """
    found = jax.devices()[0]
    plugins = installed(PLUGINS)
    if found.platform == "cpu" and plugins and not jax.config.jax_platforms:  # pyright: ignore[reportAttributeAccessIssue]
        raise RuntimeError(
            f"{', '.join(plugins)} found no accelerator: JAX_PLATFORMS=cuda,cpu shows why, "
            "and JAX_PLATFORMS=cpu measures the CPU"
        )
    return found


def cpu() -> Device:
    """The CPU device of this process.

    Raises:
        RuntimeError: JAX_PLATFORMS leaves the CPU out.
    """
    try:
        return jax.devices("cpu")[0]
    except RuntimeError as error:
        raise RuntimeError(
            "JAX_PLATFORMS must name the CPU beside the device, as in JAX_PLATFORMS=cuda,cpu: "
            f"got {os.environ.get('JAX_PLATFORMS')!r}"
        ) from error


@functools.cache
def program(name: str, shape: Shape, dtype: str, where: Device) -> Program:
    maps = jax.ShapeDtypeStruct(shape, dtype, sharding=SingleDeviceSharding(where))
    return jax.jit(FUNCTIONS[name]).lower(maps).compile()


def prepared(jobs: list[Job], places: Iterable[Device], *, until: float) -> dict[Job, Row]:
    """Compile the jobs for the devices; return the rows of the jobs that have a fault.

    Nothing new is compiled after ``until``, a time of ``time.monotonic``.
    """
    places = list(dict.fromkeys(places))

    def compile_for_all(job: Job) -> Row:
        for place in places:
            if time.monotonic() > until:
                return OVER
            program(*job, place)
        print(f"compiled {_described(job)}", file=sys.stderr, flush=True)
        return {}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = pool.map(functools.partial(tried, compile_for_all), jobs)
        return {job: row for job, row in zip(jobs, rows, strict=True) if row}


def tried(run: Callable[..., Row], *args: Any) -> Row:
    """Return the row of ``run``, or a row that says why it fails, so that the others still run."""
    try:
        return run(*args)
    except Exception as error:
        first, *_ = f"{type(error).__name__}: {error}".splitlines()
        return {"fault": first[:200]}


def _described(job: Job) -> str:
    name, shape, dtype = job
    return f"{name}, {'x'.join(map(str, shape))} {dtype}"


def agreement_rows(
    names: Iterable[str] = tuple(name for name in FUNCTIONS if name != "jnp.max"),
    *,
    shape: Shape = SHAPE,
    dtypes: Iterable[str] = DTYPES,
    seconds: float = COMPARING,
) -> list[Row]:
    """One row per function and type of maps. Gradients are only for float32 maps."""
    until = time.monotonic() + seconds
    jobs: list[Job] = [
        (name, shape, dtype)
        for dtype in dtypes
        for name in names
        if dtype == "float32" or not name.startswith("gradient")
    ]
    faults = prepared(jobs, (cpu(), device()), until=until - (1 - COMPILING) * seconds)
    return [
        {"function": job[0], "maps": job[2], **dict.fromkeys(agreement.COLUMNS)}
        | (faults.get(job) or (OVER if time.monotonic() > until else tried(_compared, *job)))
        for job in jobs
    ]


def _compared(name: str, shape: Shape, dtype: str) -> Row:
    def answers(where: Device, values: np.ndarray) -> agreement.Answers:
        run = program(name, shape, str(values.dtype), where)
        return agreement.answers(run(jax.device_put(values, where)))

    maps, shaken = _maps(shape, dtype)
    again = [answers(cpu(), each) for each in shaken]
    return agreement.compared(answers(device(), maps), answers(cpu(), maps), again)


@functools.cache
def _maps(shape: Shape, dtype: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Maps of a type, and shaken maps in float32, as other types are computed in float32 too."""
    maps = agreement.maps(shape).astype(jnp.dtype(dtype))
    return maps, list(agreement.shaken(maps.astype(np.float32)))


def time_rows(
    names: Iterable[str] = TIMED,
    *,
    shapes: Iterable[Shape] = SHAPES,
    dtypes: Iterable[str] = DTYPES,
    others: Iterable[str] = tuple(name for name in PROGRAMS if name not in TIMED),
    seconds: float = TIMING,
) -> list[Row]:
    """One row per function, shape and type of maps. ``others`` use only ``SHAPE`` in float32."""
    until = time.monotonic() + seconds
    groups = {(shape, dtype): ["jnp.max", *names] for shape in shapes for dtype in dtypes}
    if others := list(others):
        groups.setdefault((SHAPE, "float32"), ["jnp.max"]).extend(others)
    jobs = [(name, *group) for group, mine in groups.items() for name in mine]
    faults = prepared(jobs, (device(),), until=until - (1 - COMPILING) * seconds)
    rows = []
    for (shape, dtype), mine in groups.items():
        found = {name: faults.get((name, shape, dtype)) for name in mine}
        todo = [name for name, fault in found.items() if not fault]
        lost = OVER if time.monotonic() > until else found["jnp.max"]
        timed: Row = lost or tried(_timed, todo, shape, dtype)
        maps = f"{'x'.join(map(str, shape))} {dtype}"
        for name in mine:
            row = found[name] or (timed if "fault" in timed else timed[name])
            rows.append({"function": name, "maps": maps, **dict.fromkeys(COLUMNS), **row})
    return rows


def _timed(names: list[str], shape: Shape, dtype: str) -> Row:
    """The rows of functions of the same maps, by name. ``jnp.max`` is one of the functions."""
    maps = jax.device_put(speed.batch(shape).astype(jnp.dtype(dtype)), device())
    programs = {name: program(name, shape, dtype, device()) for name in names}
    calls = {name: functools.partial(run, maps) for name, run in programs.items()}
    rows = {name: tried(_done, call) for name, call in calls.items()}
    calls = {name: call for name, call in calls.items() if not rows[name]}
    once = sum(map(np.median, interleaved(calls, runs=2).values()))
    runs = int(np.clip(SECONDS / once, FEWEST, MOST))
    alone = {name: float(np.median(each)) for name, each in interleaved(calls, runs=runs).items()}
    queued = {name: _queued(call, alone[name]) for name, call in calls.items()}
    copied = None if device().platform == "cpu" else _copied(maps)
    for name, (seconds, full) in queued.items():
        rows[name] = {
            "us": 1e6 * seconds,
            "/ max": seconds / queued["jnp.max"][0],
            "/ copy to host": copied and seconds / copied,
            "queue": None if full is None else "full" if full else "waited",
            "alone, us": 1e6 * alone[name],
            "alone / max": alone[name] / alone["jnp.max"],
            "temporaries / maps": programs[name].memory_analysis().temp_size_in_bytes / maps.nbytes,
        }
    return rows


def _done(call: Callable[[], Any]) -> Row:
    jax.block_until_ready(call())
    return {}


def _queued(call: Callable[[], Any], alone: float) -> tuple[float, bool | None]:
    """Seconds of one call among many, and whether most calls found the device at work.

    The calls wait behind other work, so that the device never waits for a call. The time until
    the end of that work is seen is the same for few and for many calls, and so is not in their
    difference. Calls that end before this look too short. If a function waits for the device
    itself, the time starts at the first call. So it does on a CPU, which may run calls in
    parallel.
    """
    many = int(np.clip(2 * FRONT / alone, 4, QUEUE))
    few = many // 4
    rounds = int(np.clip(SECONDS / (2 * many * alone + FRONT) / 4, FEWEST, MOST))
    if device().platform == "cpu":
        return float(np.median([_seconds(call, many) for _ in range(rounds)])) / many, None
    seconds, full = {few: [], many: []}, []
    for _ in range(rounds):
        for count in seconds:
            work = _work(device())
            results = [call() for _ in range(count)]
            full.append(not work.is_ready())
            work.block_until_ready()
            start = time.perf_counter()
            jax.block_until_ready(results)
            seconds[count].append(time.perf_counter() - start)
    if 2 * sum(full) <= len(full):
        return float(np.median([_seconds(call, many) for _ in range(rounds)])) / many, False
    longer = np.median(seconds[many]) - np.median(seconds[few])
    return float(longer) / (many - few), True


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([call() for _ in range(count)])
    return time.perf_counter() - start


def _work(where: Device) -> Any:
    """Begin about ``FRONT`` seconds of work on a device; return an array that is ready after it."""
    product, square, once = _product(where)
    # There are at most 8, so that the calls behind them still fit into JAX's queue.
    return [product(square) for _ in range(int(np.clip(np.ceil(FRONT / once), 1, 8)))][-1]


@functools.cache
def _product(where: Device) -> tuple[Callable[[jax.Array], jax.Array], jax.Array, float]:
    """A product of matrices, its operand and the seconds it takes."""
    square = jax.device_put(np.full((SIDE, SIDE), 1 / SIDE, np.float32), where)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    seconds = interleaved({"product": lambda: product(square)}, runs=5)["product"]
    return product, square, float(np.median(seconds))


def _copied(maps: jax.Array) -> float:
    """Seconds to copy the maps to the host. Each array is new, because JAX keeps the copies."""
    seconds = []
    for _ in range(FEWEST):
        fresh = jax.block_until_ready(jnp.copy(maps))
        start = time.perf_counter()
        np.asarray(fresh)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def memory_rows() -> list[Row]:
    """The most memory in use on the device so far, as the device reports it."""
    stats = tried(lambda: device().memory_stats() or {})
    names = {"peak_bytes_in_use": "most in use, MiB", "bytes_limit": "to be had, MiB"}
    return [
        {"memory of": device().device_kind}
        | {
            shown: stats[name] / 2**20 if name in stats else "not told"
            for name, shown in names.items()
        }
        | {key: value for key, value in stats.items() if key == "fault"}
    ]


def stamp() -> str:
    """Device, driver and versions.

    Raises:
        RuntimeError: JAX does not find the device, or the CPU beside it.
    """
    where, _ = device(), cpu()
    told = [f"{where.device_kind} ({where.platform})", f"driver {_driver()}"]
    if where.platform == "cpu":
        told = ["NO ACCELERATOR: the CPU's own figures, its answers compared with themselves"]
    return "; ".join(
        [
            *told,
            where.client.platform_version.replace("\n", ", "),
            f"host {processor()}",
            f"Python {platform.python_version()}",
            ", ".join(installed(("jax", "jaxlib", "numpy", "chex", *PLUGINS))),
            *(f"{name}={value}" for name, value in os.environ.items() if name.startswith("XLA_")),
        ]
    )


def _driver() -> str:
    try:
        command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.stdout.splitlines()[0]


def slot() -> str:
    """The name of the slot for this device in the page of the benchmarks."""
    return f"device, {device().device_kind}"
