"""Figures in a page of Markdown: each part stands between two comments and comes from one run."""

import re

FIGURES = re.compile(r"(<!-- figures: ([^>]+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
# Before it stand the devices that were measured; a new one is added to them.
DEVICES = "<!-- end of devices -->"


def replaced(text: str, slot: str, stamp: str, tables: list[str]) -> str:
    """The text with the figures of a slot in place; those of other slots stay."""
    body = "\n\n".join([f"{stamp}.", *tables])

    def figures(match: re.Match[str]) -> str:
        before, name, after = match.groups()
        return f"{before}\n{body}\n\n{after}" if name == slot else match[0]

    return FIGURES.sub(figures, text)


def with_slot(text: str, slot: str) -> str:
    """The text with a slot of this name: where it has none, among the devices or at its end."""
    if slot in (name for _, name, _ in FIGURES.findall(text)):
        return text
    before, marker, after = text.partition(DEVICES)
    return f"{before}<!-- figures: {slot} -->\n<!-- end of figures -->\n\n{marker}{after}"
