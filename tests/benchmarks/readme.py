"""The README's figures: each part stands between two comments and comes from one run."""

import re

FIGURES = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def replaced(text: str, part: str, stamp: str, tables: list[str]) -> str:
    """The text with the figures of a part in place; those of other parts stay."""
    body = "\n\n".join([f"{stamp}.", *tables])

    def figures(match: re.Match[str]) -> str:
        before, name, after = match.groups()
        return f"{before}\n{body}\n\n{after}" if name == part else match[0]

    return FIGURES.sub(figures, text)
