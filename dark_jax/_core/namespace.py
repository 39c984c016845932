"""Where public functions say that they live."""

import inspect
from typing import Any


def publish(module: dict[str, Any]) -> None:
    """Let a public module's functions name it as theirs, wherever they are defined.

    Pickles of functions, ``help`` and errors then show no private path, so that files may move.
    A class keeps the module that it is defined in: ``inspect.getsource`` looks for it there.

    Args:
        module: its ``globals()``, with ``__all__``.
    """
    for name in module["__all__"]:
        value = module[name]
        if inspect.isfunction(value):
            value.__module__ = module["__name__"]
