"""How figures are printed."""


def table(rows: list[dict[str, str]]) -> str:
    """Rows of possibly different columns as one Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
