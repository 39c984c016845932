"""Choose which cases of a test run every time and which ones are slow."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(fast: Collection[Any], every: Iterable[Any], *, unpack: bool = False) -> list[Any]:
    """Every case as a parameter. All but the ``fast`` ones are marked slow.

    With ``unpack``, a case is a tuple with a value for each of several arguments.
    """
    return [
        pytest.param(*(case if unpack else (case,)), marks=[] if case in fast else pytest.mark.slow)
        for case in every
    ]
