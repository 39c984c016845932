"""A small U-Net, and its training."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from tests.benchmarks.resolution.views import Seen, Setting, examples

WIDTHS = (24, 48, 96)
BATCH = 16
RATE = 2e-3
WARM_UP = 0.05


def random_key(seed: int) -> jax.Array:
    """A key of XLA's own generator. The default generator takes ten seconds more to compile."""
    return jax.random.key(seed, impl="rbg")


class Block(nnx.Module):
    """Two times a 3 x 3 convolution, a normalisation and a ReLU."""

    def __init__(self, inner: int, outer: int, *, rngs: nnx.Rngs) -> None:
        conv = functools.partial(nnx.Conv, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.first, self.second = conv(inner, outer), conv(outer, outer)
        norm = functools.partial(nnx.GroupNorm, outer, num_groups=8, rngs=rngs)
        self.first_norm, self.second_norm = norm(), norm()

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.first_norm(self.first(x)))
        return nnx.relu(self.second_norm(self.second(x)))


class UNet(nnx.Module):
    """Frames ``[B, H, W, C]`` to maps ``[B, H / 4, W / 4, J]``, without a last activation.

    The first of ``widths`` is for the resolution of the maps. Each further one is for half the
    resolution of the one before.
    """

    def __init__(
        self, channels: int, joints: int, *, rngs: nnx.Rngs, widths: tuple[int, ...] = WIDTHS
    ) -> None:
        narrow = widths[0]
        stem = functools.partial(nnx.Conv, kernel_size=(3, 3), strides=(2, 2), rngs=rngs)
        self.stem = nnx.List([stem(channels, narrow // 2), stem(narrow // 2, narrow)])
        point = functools.partial(nnx.Conv, kernel_size=(1, 1), rngs=rngs)
        steps = list(itertools.pairwise(widths))
        self.top = Block(narrow, narrow, rngs=rngs)
        self.down = nnx.List([Block(here, below, rngs=rngs) for here, below in steps])
        self.lift = nnx.List([point(below, here) for here, below in steps])
        self.up = nnx.List([Block(here, here, rngs=rngs) for here, _ in steps])
        self.head = point(narrow, joints)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in self.stem:
            x = nnx.relu(conv(x))
        levels = [self.top(x)]
        for block in self.down:
            levels.append(block(nnx.max_pool(levels[-1], (2, 2), strides=(2, 2))))
        x = levels.pop()
        for lift, block in zip(reversed(self.lift), reversed(self.up), strict=True):
            level = levels.pop()
            x = block(level + jax.image.resize(lift(x), level.shape, "bilinear"))
        return self.head(x)


def loss(network: UNet, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean square error of the maps."""
    return jnp.mean(jnp.square(network(inputs) - targets))


@functools.partial(nnx.jit, static_argnames="setting")
def _step(
    network: UNet, optimizer: nnx.Optimizer, seen: Seen, key: jax.Array, *, setting: Setting
) -> jax.Array:
    inputs, targets = examples(key, seen, setting=setting, count=BATCH)
    value, gradient = nnx.value_and_grad(loss)(network, inputs, targets)
    optimizer.update(network, gradient)
    return value


@functools.cache  # another one, even if equal, would compile the step again
def _adamw(steps: int) -> optax.GradientTransformation:
    warm_up = math.ceil(WARM_UP * steps)
    return optax.adamw(optax.warmup_cosine_decay_schedule(0.0, RATE, warm_up, steps))


def train(
    network: UNet, seen: Seen, setting: Setting, *, steps: int, seed: int, label: str = ""
) -> np.ndarray:
    """Train ``network``; return the loss of each step.

    The rate of AdamW warms up and then decays along a cosine. A bar shows the progress.
    """
    optimizer = nnx.Optimizer(network, _adamw(steps), wrt=nnx.Param)
    key = random_key(seed)
    losses = []
    bar = tqdm(range(steps), desc=label, unit="step", mininterval=2.0)
    for step in bar:
        value = _step(network, optimizer, seen, jax.random.fold_in(key, step), setting=setting)
        losses.append(value)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{float(value):.5f}", refresh=False)
    return np.asarray(jnp.stack(losses))


def parameters(network: UNet) -> int:
    """The number of values that the network learns."""
    return sum(p.size for p in jax.tree.leaves(nnx.state(network, nnx.Param)))
