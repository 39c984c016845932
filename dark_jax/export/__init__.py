"""A compiled function in one file, for servers that have JAX but not this package.

An artefact is a zip file with two uncompressed members: ``about.json`` describes the function and
what made it, and ``function.jax_export`` is the function as ``jax.export`` serialises it. The
checksums of the zip file show whether it is damaged. A server without dark_jax can read it with
the standard library and JAX (with ``flatbuffers``)::

    serialized = zipfile.ZipFile("decode.zip").read("function.jax_export")
    decode = jax.jit(jax.export.deserialize(bytearray(serialized)).call)
    decode(heatmaps)["coords"]

Run only artefacts whose origin you trust, as with any program.

- ``PLATFORMS``: the default platforms of an artefact
- ``FORMAT``: the version of the file layout; a reader refuses a higher one
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
