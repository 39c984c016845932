"""One artefact of a compiled function, for servers that have JAX but not this package.

An artefact is a zip of two members, stored plainly: ``about.json``, which says what is in it and
what made it, and ``function.jax_export``, what ``jax.export`` serialises. The zip's checksums
tell a damaged file from a whole one. Where dark_jax is not installed, the standard library
and JAX (with ``flatbuffers``) read it::

    serialized = zipfile.ZipFile("decode.zip").read("function.jax_export")
    decode = jax.jit(jax.export.deserialize(bytearray(serialized)).call)
    decode(heatmaps)["coords"]

As with any program, run only artefacts whose origin you trust.

- ``PLATFORMS``: what an artefact is for if nothing is said
- ``FORMAT``: the number of the zip's layout; a reader refuses a higher one
"""

from dark_jax._core.namespace import publish
from dark_jax.export._artefact import FORMAT, Artefact, load, save
from dark_jax.export._export import PLATFORMS, export_decode, export_function

__all__ = [
    "FORMAT",
    "PLATFORMS",
    "Artefact",
    "export_decode",
    "export_function",
    "load",
    "save",
]

publish(globals())
del publish
