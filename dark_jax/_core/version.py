"""The installed version."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dark-jax")
except PackageNotFoundError:  # the package is a checkout on PYTHONPATH
    __version__ = "0+unknown"
