"""Print figures, and put them in their page.

    python -m tests.benchmarks [part ...] [--write [PAGE]] [--json FILE]

What each part measures:

- sides, speed, accuracy, crowds: every figure of the README; these four where no part is named.
  Peers that are not installed are named as such; ``pip install --group bench`` and
  ``pip install --no-deps mmpose`` bring them (torch is several GB on Linux).
- device: answers and times of the accelerator that JAX finds, in five minutes. Needs JAX, NumPy
  and chex, nothing else. The exit status is 1 where an answer is not the CPU's.
- kernels: what a GPU would run, counted on a machine without one; ``pip install --group kernels``.

The page is the README, or tests/benchmarks/README.md of device and kernels.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import accuracy, crowds, device, kernels, page, sides, speed, timing
from tests.benchmarks.tables import table

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = Path(__file__).with_name("README.md")
CHART = ROOT / "notebooks" / "side_by_side.png"

Rows = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class Part:
    """Tables by their titles; where ``--write`` puts them; what stands above them."""

    tables: dict[str, Rows]
    page: Path = README
    stamp: Callable[[], str] = timing.machine
    slot: Callable[[], str] | None = None


PARTS = {
    "sides": Part({"Side by side": sides.rows}),
    "speed": Part(
        {
            "Against one read of the maps": speed.rows,
            "Every decoder": speed.decoder_rows,
            "Other functions": speed.other_rows,
        }
    ),
    "accuracy": Part(accuracy.TABLES),
    "crowds": Part({"Crowds": crowds.rows}),
    "device": Part(
        {
            "Answers": device.agreement_rows,
            "Time": device.time_rows,
            "Memory": device.memory_rows,
        },
        page=PAGE,
        stamp=device.stamp,
        slot=device.slot,
    ),
    "kernels": Part({"Kernels": kernels.rows}, page=PAGE, stamp=kernels.stamp),
}
USUAL = ("sides", "speed", "accuracy", "crowds")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit status is 1 where a row tells of a fault."""
    options = _options(arguments)
    found: dict[str, Any] = {}
    for name in options.parts or USUAL:
        part = PARTS[name]
        try:
            found[name] = _measured(part)
        except ImportError as error:
            raise SystemExit(f"{name}: {error}") from error
        if options.json:
            options.json.write_text(json.dumps(_plain(found), indent=1, allow_nan=False) + "\n")
        if options.write:
            _write(part.page if options.write is True else options.write, name, found[name])
    rows = [row for part in found.values() for rows in part["tables"].values() for row in rows]
    faults = [row for row in rows if row.get("fault")]
    for row in faults:
        print(*row.values(), sep=", ", file=sys.stderr)
    return 1 if faults else 0


def _measured(part: Part) -> dict[str, Any]:
    stamp = f"{datetime.now(UTC):%Y-%m-%d}; {part.stamp()}"
    print(f"{stamp}\n")
    tables = {}
    for title, rows in part.tables.items():
        tables[title] = rows()
        print(f"{title}\n\n{table(tables[title])}\n", flush=True)
    return {"stamp": stamp, "tables": tables}


def _write(where: Path, name: str, measured: dict[str, Any]) -> None:
    """Into the page; one that is not there yet begins as the part's own."""
    part, stamp = PARTS[name], measured["stamp"]
    text = (where if where.exists() else part.page).read_text()
    slot = name
    if part.slot:
        text = page.with_slot(text, slot := part.slot())
    tables = [table(rows) for rows in measured["tables"].values()]
    where.write_text(page.replaced(text, slot, stamp, tables))
    if name == "sides":
        sides.chart(stamp).savefig(CHART, dpi=110)


def _plain(value: Any) -> Any:
    """What JSON can say: a number that is not finite as a word."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=True,
        metavar="PAGE",
        help="put the tables in their page",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures as JSON too")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"part must be one of {', '.join(PARTS)}, got {', '.join(unknown)}")
    # Before minutes of measuring, not after.
    if isinstance(options.write, Path) and options.write.suffix != ".md":
        parser.error(f"--write takes a page of Markdown, .md, got {options.write}")
    for path in (options.write, options.json):
        if isinstance(path, Path) and not path.absolute().parent.is_dir():
            parser.error(f"the folder of {path} must exist")
    return options


if __name__ == "__main__":
    sys.exit(main())
