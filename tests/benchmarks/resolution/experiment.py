"""Train a network per fold and resolution, and compute the figures of each decoder."""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dark_jax import metrics
from tests.benchmarks import timing
from tests.benchmarks.resolution.decoders import answer, decoders, evaluate
from tests.benchmarks.resolution.frames import Frames
from tests.benchmarks.resolution.network import UNet, parameters, random_key, train
from tests.benchmarks.resolution.views import SETTINGS, Seen, Setting, look, prepare, to_map

NEAR = 4.0
# A point is localised if the map's maximum is this near to it, in heatmap pixels.
LOCALISED = 3.0
# The other decoders are DARK with another kernel or with less to do.
TIMED = ("DARK, k = 5", "fit", "fit, sigma estimated")


class Outcome(NamedTuple):
    """The test of one network.

    Attributes:
        setting: the resolution of the network.
        fold: the number of the part of the frames that it was tested on.
        chosen: ``[n]``, the indices of these frames.
        network: the network.
        losses: ``[steps]``, the losses of its training.
        seconds: the time of its training, with compilation.
        coords: for each decoder ``[n, J, 2]``, in pixels of the frame.
        truth: ``[n, J, 2]``, the true coordinates.
        localised: ``[n, J]``, whether the map's maximum is near the truth.
    """

    setting: Setting
    fold: int
    chosen: np.ndarray
    network: UNet
    losses: np.ndarray
    seconds: float
    coords: dict[str, np.ndarray]
    truth: np.ndarray
    localised: np.ndarray


def folds(count: int, *, parts: int = 2, seed: int = 0) -> list[np.ndarray]:
    """The indices of the frames, divided at random into parts of about equal size."""
    order = np.random.default_rng(seed).permutation(count)
    return [np.sort(part) for part in np.array_split(order, parts)]


def part(seen: Seen, chosen: np.ndarray) -> Seen:
    """The chosen frames."""
    some = {name: getattr(seen, name)[chosen] for name in ("images", "points", "boxes")}
    return seen._replace(**some)


def test(network: UNet, seen: Seen, setting: Setting) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The coordinates of each decoder in the frames, and which points the network localised."""
    inputs, affine = look(seen, setting=setting)
    ways = decoders(setting)
    keypoints = evaluate(network, inputs, affine, ways=tuple(ways.values()))
    found = {name: each.coords for name, each in zip(ways, keypoints, strict=True)}
    off = to_map(found["argmax"], affine) - to_map(seen.points, affine)
    near = jnp.linalg.norm(off, axis=-1) <= LOCALISED
    return {name: np.asarray(coords) for name, coords in found.items()}, np.asarray(near)


def run(
    frames: Frames, *, steps: int, parts: int = 2, settings: Sequence[Setting] = SETTINGS
) -> Iterator[Outcome]:
    """Train on all parts but one, and test on that one, for each part and resolution."""
    split = folds(len(frames.images), parts=parts)
    for setting in settings:
        seen = prepare(frames, setting)
        for fold, chosen in enumerate(split):
            others = np.concatenate([p for n, p in enumerate(split) if n != fold])
            start = time.perf_counter()
            label = f"{setting.side} px, fold {fold + 1}"
            network = UNet(
                frames.images.shape[-1], len(frames.joints), rngs=nnx.Rngs(random_key(fold))
            )
            learnt = part(seen, others)
            losses = train(network, learnt, setting, steps=steps, seed=fold, label=label)
            seconds = time.perf_counter() - start
            tested = part(seen, chosen)
            coords, localised = test(network, tested, setting)
            yield Outcome(
                setting=setting,
                fold=fold,
                chosen=chosen,
                network=network,
                losses=losses,
                seconds=seconds,
                coords=coords,
                truth=np.asarray(tested.points),
                localised=localised,
            )


class Score(NamedTuple):
    """The score of a decoder on some frames.

    Attributes:
        error: the mean over frames of the mean distance in a frame, in pixels of the frame.
        deviation: the standard error of ``error`` over frames.
        gain: the error of argmax minus ``error``.
        gain_deviation: the standard error of ``gain``, from the differences in each frame.
        near: the share of points nearer than ``NEAR`` pixels.
        localised: the mean distance of the localised points.
    """

    error: float
    deviation: float
    gain: float
    gain_deviation: float
    near: float
    localised: float


def score(outcomes: Sequence[Outcome], decoder: str) -> Score:
    """The score of a decoder on all frames of ``outcomes`` together."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([outcome.coords[name] for outcome in outcomes])

    truth = np.concatenate([outcome.truth for outcome in outcomes])
    localised = np.concatenate([outcome.localised for outcome in outcomes])
    errors = np.asarray(metrics.epe(joined(decoder), truth))
    gains = np.asarray(metrics.epe(joined("argmax"), truth)) - errors
    deviation, gain_deviation = (np.std(x, ddof=1) / len(x) ** 0.5 for x in (errors, gains))
    return Score(
        error=float(errors.mean()),
        deviation=float(deviation),
        gain=float(gains.mean()),
        gain_deviation=float(gain_deviation),
        near=float(metrics.pck(joined(decoder), truth, threshold=NEAR, axis=None)),
        localised=float(metrics.epe(joined(decoder), truth, visible=localised, axis=None)),
    )


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """One row per resolution and decoder, with the errors of each fold and the gain of all."""
    found = []
    for setting, same in by_setting(outcomes).items():
        height, width = setting.map_size
        for name in decoders(setting):
            each = [score([outcome], name) for outcome in same]
            both = score(same, name)
            found.append(
                {
                    "map (sigma)": f"{height}x{width} ({setting.sigma:g})",
                    "decoder": name,
                    "error px": " / ".join(f"{s.error:.2f} ± {s.deviation:.2f}" for s in each),
                    "less than argmax": f"{both.gain:.2f} ± {both.gain_deviation:.2f}",
                    f"PCK at {NEAR:g} px": " / ".join(f"{s.near:.3f}" for s in each),
                    "error px, localised": " / ".join(f"{s.localised:.2f}" for s in each),
                }
            )
    return found


def training_rows(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """One row per network, with its size and its training."""
    return [
        {
            "input": f"{o.setting.side}x{o.setting.side}",
            "fold": str(o.fold + 1),
            "parameters": f"{parameters(o.network):,}",
            "steps": str(len(o.losses)),
            "loss, first and last 20 steps": " to ".join(
                f"{ends.mean():.5f}" for ends in (o.losses[:20], o.losses[-20:])
            ),
            "points localised": f"{o.localised.mean():.3f}",
            "seconds": f"{o.seconds:.0f}",
        }
        for o in outcomes
    ]


def by_setting(outcomes: Sequence[Outcome]) -> dict[Setting, list[Outcome]]:
    """The outcomes, grouped by resolution."""
    settings = dict.fromkeys(outcome.setting for outcome in outcomes)
    return {s: [o for o in outcomes if o.setting == s] for s in settings}


def cost_rows(outcomes: Sequence[Outcome], frames: Frames, *, runs: int) -> list[dict[str, str]]:
    """One row per resolution, with the time that decoding adds to the evaluation step."""
    found = []
    for setting, same in by_setting(outcomes).items():
        network, chosen = same[0].network, same[0].chosen
        inputs, affine = look(part(prepare(frames, setting), chosen), setting=setting)
        ways = decoders(setting)

        step = functools.partial(evaluate, network, inputs, affine)
        candidates = {name: functools.partial(step, ways=(ways[name],)) for name in TIMED}
        bare_step = functools.partial(answer, network, inputs)
        seconds = timing.interleaved({"": bare_step} | candidates, runs=runs)
        bare = seconds.pop("")
        row = {
            "frames": f"{len(chosen)}x{setting.side}x{setting.side}",
            "network alone ms": f"{1e3 * np.median(bare):.1f}",
        }
        for name, took in seconds.items():
            row[name] = f"{100 * (np.median(took) / np.median(bare) - 1):+.1f} %"
        found.append(row)
    return found
