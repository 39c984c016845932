"""Optional dependencies, imported where they are used."""

import importlib
from types import ModuleType


def load(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or raise an ImportError that names the extra of dark_jax to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        needed = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != needed:
            raise
        raise ImportError(
            f'{needed} is not installed: pip install "dark_jax[{extra}]"', name=needed
        ) from error
