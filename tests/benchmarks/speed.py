"""The time of decoding, as a multiple of one read of the maps and compared with the peers."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dark_jax
from tests.benchmarks import peers
from tests.benchmarks.timing import Candidates, interleaved, ratio
from tests.support import synthetic

KERNEL = 11
SHAPES = (
    ((1, 17, 64, 48), "float32"),
    ((32, 17, 64, 48), "float32"),
    ((256, 17, 64, 48), "float32"),
    ((256, 17, 64, 48), "bfloat16"),
    ((8, 133, 96, 72), "float32"),
    ((4, 308, 256, 192), "float32"),
)


def batch(shape: tuple[int, ...], *, cut: bool = False) -> np.ndarray:
    """Noisy bumps on a background, or bumps cut as by a ReLU. A few maps are repeated."""
    size = (shape[-2], shape[-1])
    maps, _ = synthetic.gaussians(0, 34, size, sigma=2.0, noise=0.02)
    maps = synthetic.cut(maps, threshold=0.9) if cut else maps
    return np.resize(maps, shape)


def rows() -> list[dict[str, str]]:
    """One row per shape."""
    return [_row(shape, dtype) for shape, dtype in SHAPES]


def _row(shape: tuple[int, ...], dtype: str) -> dict[str, str]:
    host = batch(shape)
    maps = jnp.asarray(host, dtype)
    memory: Any = jax.jit(dark_jax.decode).lower(maps).compile().memory_analysis()
    bare_max = jax.jit(lambda h: jnp.max(h, (-2, -1)))
    candidates: dict[str, Any] = {
        "max": lambda: bare_max(maps),
        "decode": lambda: dark_jax.decode(maps),
        "reference": lambda: dark_jax.get_final_preds(maps, KERNEL),
    }
    ours = interleaved(candidates, runs=41)
    row = {
        "maps": f"{'x'.join(map(str, shape))} {dtype}",
        "max ms": f"{1e3 * np.median(ours['max']):.2f}",
        "decode ms": f"{1e3 * np.median(ours['decode']):.2f}",
        "decode / max": ratio(ours["decode"], ours["max"]),
        "temporaries": f"{100 * memory.temp_size_in_bytes / maps.nbytes:.0f} %",
        "first call s": f"{_first_call(maps):.2f}",
        "get_final_preds / decode": ratio(ours["reference"], ours["decode"]),
    }
    others = {
        "rtmlib": functools.partial(peers.home, "VITPOSE", KERNEL),
        "OpenCV loop": functools.partial(peers.opencv_loop, KERNEL),
    }
    for name, load in others.items():
        peer = peers.loaded(load)
        if peer is None:
            row[f"{name} / decode"] = "not installed"
        elif dtype != "float32":
            row[f"{name} / decode"] = ""
        else:
            pair: Candidates = {"ours": candidates["decode"], "peer": lambda p=peer: p(host)}
            seconds = interleaved(pair)
            row[f"{name} / decode"] = ratio(seconds["peer"], seconds["ours"])
    return row


def _first_call(maps: jax.Array) -> float:
    jax.clear_caches()
    start = time.perf_counter()
    jax.block_until_ready(dark_jax.decode(maps))
    return time.perf_counter() - start


def decoder_rows() -> list[dict[str, str]]:
    """The time of every decoder on maps of one shape, as a multiple of that of ``decode``."""
    shape = (64, 17, 64, 48)
    maps = jnp.asarray(batch(shape))
    last = jnp.moveaxis(maps, 1, -1)
    crowds, _ = synthetic.crowds(0, 34, shape[-2:], peaks=30, separation=4, sigma=1.5, noise=0.02)
    crowds = jnp.asarray(np.resize(crowds, shape))
    decoders: dict[str, tuple[Any, jax.Array]] = {
        f"decode, rules.{rule.name}": (functools.partial(dark_jax.decode, rule=rule), maps)
        for rule in dark_jax.rules.PUBLISHED
        if 2 in rule.dims
    }
    decoders["decode, kernel_size=11"] = (
        functools.partial(dark_jax.decode, kernel_size=KERNEL),
        maps,
    )
    decoders["decode, channels-last"] = functools.partial(dark_jax.decode, axes=(-3, -2)), last
    for sigma in (1.0, 2.0, 3.0, 6.0):
        fit = functools.partial(dark_jax.decode_fit, sigma=sigma)
        decoders[f"decode_fit, sigma={sigma}"] = fit, maps
    for slots, distance in ((30, 1), (30, 2), (30, 3), (8, 3)):
        peaks = functools.partial(
            dark_jax.decode_peaks, max_peaks=slots, threshold=0.1, min_distance=distance
        )
        decoders[f"decode_peaks, max_peaks={slots}, min_distance={distance}"] = peaks, crowds
    soft = functools.partial(dark_jax.decode_soft_argmax, temperature=0.1)
    decoders["decode_soft_argmax"] = soft, maps
    decoders["decode_soft_argmax, radius=7"] = functools.partial(soft, radius=7), maps
    found = []
    for name, (decoder, its_maps) in decoders.items():
        memory: Any = jax.jit(decoder).lower(its_maps).compile().memory_analysis()
        pair: Candidates = {
            "decode": lambda: dark_jax.decode(maps),
            "this": lambda d=decoder, m=its_maps: d(m),
        }
        seconds = interleaved(pair)
        found.append(
            {
                "decoder, 64x17x64x48": name,
                "ms": f"{1e3 * np.median(seconds['this']):.2f}",
                "/ decode": ratio(seconds["this"], seconds["decode"]),
                "temporaries": f"{100 * memory.temp_size_in_bytes / its_maps.nbytes:.0f} %",
            }
        )
    return found


def _beside_peer(what: str, peer: str, seconds: dict[str, np.ndarray]) -> dict[str, str]:
    row = {"what": f"{what}; {peer}", "ms": f"{1e3 * np.median(seconds['ours']):.2f}"}
    other = seconds.get("peer")
    against = "not installed" if other is None else ratio(other, seconds["ours"])
    return row | {"original / ours": against}


def _simcc_rows() -> list[dict[str, str]]:
    """SimCC by both rules, beside mmpose."""
    rows = tuple(
        np.asarray(dark_jax.encode(_centres(size), size=(size,), sigma=6.0, axes=(-1,)))
        for size in (384, 512)
    )
    ours = tuple(map(jnp.asarray, rows))
    found = []
    for rule in (dark_jax.rules.MMPOSE_SIMCC, dark_jax.rules.MMPOSE_SIMCC_DARK):
        candidates: dict[str, Any] = {
            "ours": lambda rule=rule: dark_jax.decode_simcc(*ours, rule=rule)
        }
        peer = peers.loaded(functools.partial(peers.mmpose_simcc, rule.name))
        if peer is not None:
            candidates["peer"] = lambda peer=peer: peer(rows)
        what = f"decode_simcc, rules.{rule.name}, 64x17 rows of 384 and 512 bins"
        found.append(_beside_peer(what, "mmpose", interleaved(candidates)))
    return found


def _centres(size: int) -> np.ndarray:
    return synthetic.rng(0).uniform(20, size - 20, (64, 17, 1)).astype(np.float32)


def other_rows() -> list[dict[str, str]]:
    """Blurs, SimCC, the reference on maps that its clamp changes, and a single call."""
    maps = jnp.asarray(batch((128, 17, 64, 48)))
    host = np.asarray(maps)
    found = []
    for kernel in (3, KERNEL, 17):
        peer = peers.loaded(functools.partial(peers.opencv_blur, kernel))
        candidates: dict[str, Any] = {"ours": lambda k=kernel: dark_jax.gaussian_blur(maps, k)}
        if peer is not None:
            candidates["peer"] = lambda p=peer: p(host)
        seconds = interleaved(candidates)
        found.append(_beside_peer(f"gaussian_blur, k = {kernel}, 128x17x64x48", "OpenCV", seconds))
    found += _simcc_rows()

    clamped = np.asarray(maps).copy()
    one_joint = clamped.copy()
    one_joint[:, 0] = batch((128, 64, 48), cut=True)
    clamped[:] = batch(clamped.shape, cut=True)
    kinds = {"nowhere": maps}
    kinds |= {"in one joint": jnp.asarray(one_joint), "in all": jnp.asarray(clamped)}
    candidates = {}
    for name, kind in kinds.items():
        candidates[name] = lambda m=kind: dark_jax.get_final_preds(m)
    candidates["decode"] = lambda: dark_jax.decode(maps, kernel_size=3)
    seconds = interleaved(candidates)
    for name in kinds:
        found.append(
            {
                "what": f"get_final_preds, k = 3, clamped values {name}",
                "ms": f"{1e3 * np.median(seconds[name]):.1f}",
                "/ decode": ratio(seconds[name], seconds["decode"]),
            }
        )

    one = jnp.asarray(batch((1, 17, 64, 48)))
    compiled = jax.jit(dark_jax.decode).lower(one).compile()
    nothing = jax.jit(lambda m: m[0, 0, 0, 0])
    seconds = interleaved(
        {
            "dark_jax.decode": lambda: dark_jax.decode(one),
            "the same, compiled ahead": lambda: compiled(one),
            "a jitted function that reads one pixel": lambda: nothing(one),
        },
        runs=501,
    )
    for name, values in seconds.items():
        found.append({"what": f"{name}, 1x17x64x48", "ms": f"{1e3 * np.median(values):.3f}"})
    return found
