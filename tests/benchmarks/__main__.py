"""Print every figure of the README's speed section.

    python -m tests.benchmarks

Peers that are not installed are named as such; ``pip install --group bench`` brings them.
"""

from datetime import UTC, datetime

from tests.benchmarks import crowds, speed
from tests.benchmarks.timing import machine


def table(rows: list[dict[str, str]]) -> str:
    """Rows of possibly different columns as one Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}; {machine()}")
    print("Medians of interleaved runs in one process; in brackets the quartiles of the ratio.\n")
    print(table(speed.rows()), end="\n\n", flush=True)
    print(table(speed.decoder_rows()), end="\n\n", flush=True)
    print(table(speed.other_rows()), end="\n\n", flush=True)
    print(table(crowds.rows()))


if __name__ == "__main__":
    main()
