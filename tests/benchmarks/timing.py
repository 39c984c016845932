"""Medians of interleaved runs, so that a disturbance affects every candidate alike."""

import importlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

RUNS = 21
PACKAGES = (
    *("jax", "jaxlib", "numpy", "mmpose", "rtmlib", "transformers", "scipy"),
    *("torch", "kornia", "dsntnn", "dm-pix"),
)

Candidates = Mapping[str, Callable[[], Any]]


def interleaved(candidates: Candidates, *, runs: int = RUNS) -> dict[str, np.ndarray]:
    """Seconds of each run of each candidate. They take turns, after one run that is not timed."""
    for candidate in candidates.values():
        jax.block_until_ready(candidate())
    seconds = {name: np.empty(runs) for name in candidates}
    for run in range(runs):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            jax.block_until_ready(candidate())
            seconds[name][run] = time.perf_counter() - start
    return seconds


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> str:
    """The ratio of the medians, with the quartiles of the ratios of each run."""
    low, high = np.percentile(numerator / denominator, [25, 75])
    middle = np.median(numerator) / np.median(denominator)
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def machine() -> str:
    """Processor, cores and versions, for the line above every table."""
    try:  # the version of the module, because several packages contain it
        opencv = f"OpenCV {importlib.import_module('cv2').__version__}"
    except ImportError:
        opencv = "OpenCV absent"
    known = ", ".join([opencv, *versions(PACKAGES)])
    return f"{processor()}; Python {platform.python_version()}; {known}"


def processor() -> str:
    """The number of cores and their name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def installed(packages: Iterable[str]) -> list[str]:
    """The installed ones of these packages, each with its version."""
    return [known for known in versions(packages) if not known.endswith(" absent")]


def versions(packages: Iterable[str]) -> list[str]:
    """Each package with its version, or marked as absent."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    return found
