"""The version that is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dark-jax")
except PackageNotFoundError:  # a checkout on PYTHONPATH
    __version__ = "0+unknown"
