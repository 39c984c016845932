"""Figures in a page of Markdown. Each part is between two comments, and comes from one run."""

import re

FIGURES = re.compile(r"(<!-- figures: ([^>]+?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
# The devices that were measured come before this marker. A new device is added there.
DEVICES = "<!-- end of devices -->"


def replaced(text: str, slot: str, stamp: str, tables: list[str]) -> str:
    """Return the text with new figures in this slot. Other slots stay as they are."""
    body = "\n\n".join([f"{stamp}.", *tables])

    def figures(match: re.Match[str]) -> str:
        before, name, after = match.groups()
        return f"{before}\n{body}\n\n{after}" if name == slot else match[0]

    return FIGURES.sub(figures, text)


def with_slot(text: str, slot: str) -> str:
    """Return the text with a slot of this name.

    A new slot is added after the devices, or at the end of a text without devices.
    """
    if slot in (name for _, name, _ in FIGURES.findall(text)):
        return text
    before, marker, after = text.partition(DEVICES)
    return f"{before}<!-- figures: {slot} -->\n<!-- end of figures -->\n\n{marker}{after}"
