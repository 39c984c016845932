"""Which cases of a test run every time, and which with the slow ones."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(fast: Collection[Any], every: Iterable[Any], *, unpack: bool = False) -> list[Any]:
    """``every`` case as a parameter, all but the ``fast`` ones marked slow.

    With ``unpack`` a case is a tuple, with a value for each of several arguments.
    """
    return [
        pytest.param(*(case if unpack else (case,)), marks=[] if case in fast else pytest.mark.slow)
        for case in every
    ]
