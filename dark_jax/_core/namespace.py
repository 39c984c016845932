"""The module that public functions name as theirs."""

import inspect
from typing import Any


def publish(module: dict[str, Any]) -> None:
    """Let the functions of a public module name it as theirs, wherever they are defined.

    Pickles of functions, ``help`` and errors then show no private path, so files may move. A class
    keeps the module that it is defined in, because ``inspect.getsource`` looks for it there.

    Args:
        module: the ``globals()`` of the public module, with ``__all__``.
    """
    for name in module["__all__"]:
        value = module[name]
        if inspect.isfunction(value):
            value.__module__ = module["__name__"]
