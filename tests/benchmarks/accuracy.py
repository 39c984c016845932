"""The accuracy of every decoder, and of the covariances that decoders estimate.

Errors are in heatmap pixels. They are compared with the Cramer-Rao bound, and measured at borders
and beside other peaks.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dark_jax
from dark_jax import Status, rules
from tests.support import synthetic
from tests.support.synthetic import bound

SIZE = (64, 48)
COUNT = 2000
Decoder = Callable[[np.ndarray], dark_jax.Keypoints]
Row = dict[str, str]


def error(decoder: Decoder, maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``[N, 2]``, the decoded minus the true coordinates."""
    return np.asarray(decoder(maps).coords) - points


def mean(errors: np.ndarray) -> str:
    value = np.linalg.norm(errors, axis=-1).mean()
    return f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def published(sigma: float) -> dict[str, Decoder]:
    """The published rules with the kernels of their original code, and decoders of dark_jax."""
    decoders: dict[str, Decoder] = {
        f"rules.{rule.name}": functools.partial(dark_jax.decode, rule=rule)
        for rule in (rules.HRNET, rules.DARKPOSE, rules.MMPOSE_UDP, rules.VITPOSE, rules.HF_VITPOSE)
    }
    decoders["decode"] = dark_jax.decode
    for k in (3, 11):
        decoders[f"decode, kernel_size={k}"] = functools.partial(dark_jax.decode, kernel_size=k)
    decoders["decode, sigma"] = functools.partial(dark_jax.decode, blur_sigma=sigma)
    decoders["decode_fit, sigma"] = functools.partial(dark_jax.decode_fit, sigma=sigma)
    return decoders


def _estimated(maps: np.ndarray, factor: float = 1.0) -> dark_jax.Keypoints:
    return dark_jax.decode_fit(maps, sigma=factor * float(dark_jax.estimate_sigma(maps)))


def limit_rows() -> list[Row]:
    """The RMS error over the bound, in the interior. Without noise, the mean error in pixels."""
    found = []
    for sigma in (1.0, 1.5, 2.0, 3.0, 6.0):
        size, count, margin = (SIZE, COUNT, 10.0) if sigma < 6 else ((256, 192), 300, 30.0)
        decoders = published(sigma)
        if sigma == 6.0:
            decoders = {name: decoders[name] for name in ("decode, sigma", "decode_fit, sigma")}
        decoders["decode_fit, estimated"] = _estimated
        for name, decoder in decoders.items():
            row = {"sigma": f"{sigma:g}", "decoder": name}
            for noise in (0.0, 0.005, 0.02, 0.05, 0.1):
                maps, points = synthetic.gaussians(
                    0, count, size, sigma=sigma, noise=noise, margin=margin
                )
                errors = error(decoder, maps, points)
                rms = np.sqrt((errors**2).mean())
                row[f"noise {noise:g}"] = f"{rms / bound(noise):.2f}" if noise else mean(errors)
            found.append(row)
    return found


def lost_peak_rows() -> list[Row]:
    """The RMS error over the bound, in noise so strong that the maximum is often elsewhere."""
    found = []
    for sigma in (1.5, 2.0, 3.0):
        row = {"sigma": f"{sigma:g}"}
        for blurred in (False, True):
            for noise in (0.2, 0.3):
                maps, points = synthetic.gaussians(
                    1, COUNT, SIZE, sigma=sigma, noise=noise, margin=10.0
                )
                decoder = functools.partial(dark_jax.decode_fit, sigma=sigma, from_blurred=blurred)
                rms = np.sqrt((error(decoder, maps, points) ** 2).mean())
                row[f"from_blurred={blurred}, noise {noise:g}"] = f"{rms / bound(noise):.2f}"
        found.append(row)
    return found


def border_rows() -> list[Row]:
    """Mean error of blobs whose middle is within 2.5 pixels of an edge."""
    found = []
    for sigma in (1.0, 2.0, 3.0, 6.0):
        clean, points = synthetic.border(2, SIZE, sigma=sigma)
        noise = synthetic.noise(3, len(clean), SIZE, zero_mean=True)
        for name, decoder in published(sigma).items():
            row = {"sigma": f"{sigma:g}", "decoder": name}
            for level in (0.0, 0.02, 0.1):
                maps = clean + np.float32(level) * noise
                row[f"noise {level:g}"] = mean(error(decoder, maps, points))
            found.append(row)
    return found


def second_peak_rows() -> list[Row]:
    """Mean error beside a second peak of 0.6 times the height."""
    found = []
    for sigma in (1.5, 2.0):
        fit = functools.partial(dark_jax.decode_fit, sigma=sigma)
        decoders: dict[str, Decoder] = {
            f"decode, kernel_size={k}": functools.partial(dark_jax.decode, kernel_size=k)
            for k in (1, 3, 5, 7, 11)
        }
        decoders["decode_fit"] = fit
        decoders |= {f"decode_fit, radius={r}": functools.partial(fit, radius=r) for r in (1, 2)}
        for name, decoder in decoders.items():
            row = {"sigma": f"{sigma:g}", "decoder": name}
            for distance in (4.0, 5.0, 6.0):
                maps, points = synthetic.second_peak(
                    4, 500, SIZE, sigma=sigma, height=0.6, distance=distance
                )
                row[f"{distance:g} px away"] = mean(error(decoder, maps, points))
            found.append(row)
    return found


def wrong_model_rows() -> list[Row]:
    """Mean error for sigma 2 and noise 0.02, if the blobs differ from the model of the fit."""
    inside, truth = synthetic.gaussians(5, COUNT, SIZE, sigma=2.0, noise=0.02, margin=10.0)
    edges, on_edge = synthetic.border(6, SIZE, sigma=2.0)
    edges += 0.02 * synthetic.noise(7, len(edges), SIZE, zero_mean=True)
    spread = (2.0 * 1.25, 2.0 / 1.25)  # 1.56 times as long as wide
    oval = np.array(dark_jax.encode(truth.astype(np.float32), size=SIZE, sigma=spread))
    oval += 0.02 * synthetic.noise(8, len(oval), SIZE, zero_mean=True)
    wide = functools.partial(dark_jax.decode, kernel_size=11)
    decoders: dict[str, Decoder] = {"decode": dark_jax.decode, "decode, kernel_size=11": wide}
    for told in (1.5, 1.8, 2.0, 2.2, 2.5):
        name = f"decode_fit, sigma={told:g}"
        decoders[name] = functools.partial(dark_jax.decode_fit, sigma=told)
    decoders["decode_fit, estimated"] = _estimated
    return [
        {
            "decoder": name,
            "round": mean(error(decoder, inside, truth)),
            "within 2.5 px of an edge": mean(error(decoder, edges, on_edge)),
            "1.56 times as long as wide": mean(error(decoder, oval, truth)),
        }
        for name, decoder in decoders.items()
    ]


def coverage(keypoints: dark_jax.Keypoints, points: np.ndarray) -> Row:
    """The share of the errors inside the ellipses, for keypoints with a finite covariance."""
    squared, known = synthetic.squared_deviations(keypoints, points)
    return {
        "known": f"{100 * known.mean():.1f} %",
        "within 1 sigma (39.3)": f"{100 * (squared < 1).mean():.1f}",
        "within 2 sigma (86.5)": f"{100 * (squared < 4).mean():.1f}",
        "mean squared (2)": f"{squared.mean():.2f}",
    }


def coverage_rows() -> list[Row]:
    """The coverage of the covariances, with at least 5000 maps per row."""
    found = []
    for sigma in (1.0, 2.0, 3.0, 6.0):
        parts = [synthetic.border(seed, SIZE, sigma=sigma) for seed in range(8)]
        edges, on_edge = (np.concatenate(values) for values in zip(*parts, strict=True))
        fit = functools.partial(dark_jax.decode_fit, sigma=sigma)
        dark = functools.partial(dark_jax.decode, blur_sigma=sigma, covariance=True)
        for noise in (0.01, 0.1):
            inside = synthetic.gaussians(9, 5000, SIZE, sigma=sigma, noise=noise, margin=14.0)
            noisy = edges + np.float32(noise) * synthetic.noise(
                10, len(edges), SIZE, zero_mean=True
            )
            cases = [("decode_fit", "interior", fit, inside)]
            cases.append(("decode_fit", "border", fit, (noisy, on_edge)))
            if sigma < 6:
                cases.append(("decode, sigma", "interior", dark, inside))
                for k in (5, 11):
                    options = {"kernel_size": k, "covariance": True}
                    of_kernel = functools.partial(dark_jax.decode, **options)
                    cases.append((f"decode, kernel_size={k}", "interior", of_kernel, inside))
            for name, where, decoder, (maps, points) in cases:
                row = {"decoder": name, "where": where, "sigma": f"{sigma:g}"}
                row["noise"] = f"{noise:g}"
                found.append(row | coverage(decoder(maps), points))
    return found


def real_rows() -> list[Row]:
    """Errors in real frames, for points that argmax finds within 3 px.

    The environment variable ``DARK_JAX_OPENFIELD`` names their folder.
    """
    folder = os.environ.get("DARK_JAX_OPENFIELD")
    if not folder:
        return [{"real frames": "DARK_JAX_OPENFIELD does not name their folder"}]
    found = []
    for name, sigma in (("s32_sig1", 1.0), ("s64_sig1.5", 1.5), ("s128_sig2", 2.0)):
        with np.load(Path(folder) / f"heatmaps_{name}.npz") as arrays:
            maps = arrays["heatmaps"].astype(np.float32)
            truth = arrays["gt"].reshape(-1, 2)
        estimate = float(dark_jax.estimate_sigma(maps))
        maps = maps.reshape(-1, *maps.shape[-2:])
        peaks = np.asarray(dark_jax.get_max_preds(maps[None])[0][0])
        local = np.linalg.norm(peaks - truth, axis=1) < 3
        maps, truth = maps[local], truth[local]
        decoders: dict[str, Decoder] = {
            "decode_fit, training sigma": functools.partial(dark_jax.decode_fit, sigma=sigma),
            f"decode_fit, estimated {estimate:.2f}": _estimated,
            "decode_fit, 25 % too wide": functools.partial(dark_jax.decode_fit, sigma=1.25 * sigma),
            "rules.HRNET": functools.partial(dark_jax.decode, rule=rules.HRNET),
        }
        for k in (3, 5, 7, 11, 17):
            decoders[f"decode, kernel_size={k}"] = functools.partial(dark_jax.decode, kernel_size=k)
        row: dict[str, Any] = {"frames": name, "decoder": "argmax"}
        found.append(row | {"mean error px": mean(peaks[local] - truth)})
        for label, decoder in decoders.items():
            keypoints = decoder(maps)
            row = {"frames": name, "decoder": label}
            row["mean error px"] = mean(np.asarray(keypoints.coords) - truth)
            row["refined"] = f"{100 * (np.asarray(keypoints.status) == Status.REFINED).mean():.1f}"
            if "fit" in label:
                row |= coverage(keypoints, truth)
            found.append(row)
    return found


TABLES = {
    "Interior: RMS error over the Cramer-Rao bound (without noise: mean px)": limit_rows,
    "Strong noise: decode_fit, RMS error over the bound": lost_peak_rows,
    "Within 2.5 px of an edge: mean px": border_rows,
    "Beside a second peak of .6 of the height: mean px": second_peak_rows,
    "Not what the fit was told: sigma 2, noise .02, mean px": wrong_model_rows,
    "Covariance": coverage_rows,
    "Real frames: heatmap px": real_rows,
}
