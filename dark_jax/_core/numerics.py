"""Floating-point care that every wing needs."""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax


def known_values(array: jax.Array | np.ndarray) -> np.ndarray | None:
    """The values of an array, where they are here; they are where JAX's is bound before a trace.

    Those of a traced array are not, nor those of one that lies on other hosts' devices too.
    """
    if isinstance(array, jax.core.Tracer):
        return None
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    return np.asarray(array)


def as_float(values: jax.Array) -> jax.Array:
    """float64 stays, everything else is computed in float32."""
    return values.astype(jnp.float64 if values.dtype == jnp.float64 else jnp.float32)


def together(*arrays: jax.Array) -> list[jax.Array]:
    """All in float64 if one is, otherwise in float32."""
    found = [as_float(array) for array in arrays]
    dtype = max((array.dtype for array in found), key=lambda dtype: dtype.itemsize)
    return [array.astype(dtype) for array in found]


def inverse_power_of_two(size: jax.Array) -> jax.Array:
    """Brings a positive ``size`` to [1, 4) without touching a digit; 1 for any other.

    A constant to the gradient.
    """
    bits = {4: jnp.uint32, 8: jnp.uint64}[size.dtype.itemsize]
    # Infinity is all exponent and no fraction.
    infinity = lax.bitcast_convert_type(jnp.array(jnp.inf, size.dtype), bits)
    power = lax.bitcast_convert_type(lax.stop_gradient(size), bits) & infinity
    power = lax.bitcast_convert_type(power, size.dtype)
    # The inverse of the very largest power is subnormal: zero, on a CPU.
    largest = 2.0 ** (jnp.finfo(size.dtype).maxexp - 2)
    usable = (size > 0) & (power > 0) & jnp.isfinite(power)
    return jnp.where(usable, 1 / jnp.clip(power, jnp.finfo(size.dtype).tiny, largest), 1)
