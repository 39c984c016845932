"""Kernels of notebooks compile each program once, as the tests do."""

import os

from tests.support import compilation_cache

os.environ.update(compilation_cache.environment())
