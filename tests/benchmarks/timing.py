"""Medians of interleaved runs: what disturbs the machine disturbs every candidate alike."""

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
    """Seconds of each run of each candidate, which take turns; one run before does not count."""
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
    """Ratio of the medians, with the quartiles of the ratios run by run."""
    low, high = np.percentile(numerator / denominator, [25, 75])
    middle = np.median(numerator) / np.median(denominator)
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def machine() -> str:
    """Processor, cores and versions, to stand above every table."""
    try:  # of the module: several packages bring it
        opencv = f"OpenCV {importlib.import_module('cv2').__version__}"
    except ImportError:
        opencv = "OpenCV absent"
    known = ", ".join([opencv, *versions(PACKAGES)])
    return f"{processor()}; Python {platform.python_version()}; {known}"


def processor() -> str:
    """Cores and their name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def installed(packages: Iterable[str]) -> list[str]:
    """Those that are not absent, each with its version."""
    return [known for known in versions(packages) if not known.endswith(" absent")]


def versions(packages: Iterable[str]) -> list[str]:
    """Each with its version, or as absent."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    return found
