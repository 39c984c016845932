"""Values, dtypes and scales of arrays."""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax


def known_values(array: jax.Array | np.ndarray) -> np.ndarray | None:
    """The values of an array, or None if they are not available.

    They are not available if the array is traced, or if it is partly on devices of other hosts.
    During a trace, the values of a JAX array that was bound before it are available.
    """
    if isinstance(array, jax.core.Tracer):
        return None
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    return np.asarray(array)


def as_float(values: jax.Array) -> jax.Array:
    """Convert everything but float64 to float32."""
    return values.astype(jnp.float64 if values.dtype == jnp.float64 else jnp.float32)


def together(*arrays: jax.Array) -> list[jax.Array]:
    """Convert all arrays to float64 if one of them is float64, otherwise to float32."""
    found = [as_float(array) for array in arrays]
    dtype = max((array.dtype for array in found), key=lambda dtype: dtype.itemsize)
    return [array.astype(dtype) for array in found]


def inverse_power_of_two(size: jax.Array) -> jax.Array:
    """A factor that brings a positive ``size`` to [1, 4) without changing a digit; else 1.

    The gradient treats it as a constant.
    """
    bits = {4: jnp.uint32, 8: jnp.uint64}[size.dtype.itemsize]
    # All bits of the exponent of infinity are one, and all bits of its fraction are zero.
    infinity = lax.bitcast_convert_type(jnp.array(jnp.inf, size.dtype), bits)
    power = lax.bitcast_convert_type(lax.stop_gradient(size), bits) & infinity
    power = lax.bitcast_convert_type(power, size.dtype)
    # The inverse of the largest power is subnormal, and so is zero on a CPU.
    largest = 2.0 ** (jnp.finfo(size.dtype).maxexp - 2)
    usable = (size > 0) & (power > 0) & jnp.isfinite(power)
    return jnp.where(usable, 1 / jnp.clip(power, jnp.finfo(size.dtype).tiny, largest), 1)
