"""From an integer peak to a sub-pixel coordinate, by any rule."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax._codecs import dark_covariance
from dark_jax._codecs.dark_settings import DarkSettings
from dark_jax._core.keypoints import Status, status_of
from dark_jax._core.numerics import as_float, inverse_power_of_two
from dark_jax._ops.flat_top import at_middle, is_missed
from dark_jax._ops.peak import Peak, find_peak
from dark_jax._ops.pixels import Position, box, inside, read
from dark_jax._ops.quadratic import Quadratic
from dark_jax._ops.rescale import Rescale, blur_and_rescale
from dark_jax._ops.window import blurred, kernel_variances
from dark_jax.rules import Rule

# A map is computed in float64 if one of its blurred values is below this many times the magnitude
# of the most negative pixel in the window, because its digits have cancelled.
CANCELLED = 0.1
# The longest step in pixels that is credible because the blob is wide.
WIDEST = 3.0


class Refined(NamedTuple):
    """The coordinates ``[dim]``, score and status of a peak.

    ``covariance``, ``[dim, dim]``, is None if it was not asked for. ``exact`` is False if the rule
    needs the whole map for the coordinates. It is None for rules that never or always need it.
    """

    coords: jax.Array
    score: jax.Array
    status: jax.Array
    covariance: jax.Array | None = None
    exact: jax.Array | None = None


def find_start(heatmap: jax.Array, rule: Rule) -> Peak:
    """The maximum of a map where the rule starts; the rule decides which one if several tie."""
    peak = find_peak(heatmap)
    return at_middle(heatmap, peak) if rule.flat_top else peak


def refine_from_window(heatmap: jax.Array, peak: Peak, settings: DarkSettings) -> Refined:
    """Refine a peak of one map from the pixels around it."""
    rule = settings.rule
    if rule.kernel is None:
        values = read(heatmap, peak.position, settings.offsets, rule.padding)
        finite = jnp.all(jnp.isfinite(values))
        values = _bounded(values) if rule.clip_infinity else values
        return _step(values, peak, finite, heatmap, settings)
    around = _read_window(heatmap, peak.position, settings)
    values = blurred(around, settings.kernels, settings.offsets)
    finite = jnp.isfinite(values[0])
    if rule.clip_infinity:
        # Zeros in the blur matrices spread an infinity over the stencil. The blur and clamp of the
        # originals do not. The limit is half of the largest number, so that rounding does not take
        # the sums beyond it.
        half = float(jnp.finfo(around.dtype).max) / 2
        values = blurred(jnp.clip(around, -half, half), settings.kernels, settings.offsets)
    found = _step(values, peak, finite, heatmap, settings)
    if settings.covariance:
        covariance = _covariance(heatmap, peak, values, found.status, settings)
        found = found._replace(covariance=covariance)
    if rule.rescale is not Rescale.NO:
        decided = finite & _decided(values, around, peak, rule)
        unused = ~jnp.any(_used(peak, heatmap.shape, rule))
        found = found._replace(exact=decided | unused)
    return found


def _bounded(values: jax.Array) -> jax.Array:
    """The values with the largest numbers in place of infinities."""
    largest = float(jnp.finfo(values.dtype).max)
    return jnp.clip(values, -largest, largest)


def _covariance(
    heatmap: jax.Array, peak: Peak, values: jax.Array, status: jax.Array, settings: DarkSettings
) -> jax.Array:
    """``[dim, dim]``, the covariance of a guarded step; infinite if it was not taken or is biased.

    The step is biased if the blur reaches over the edge of the map.
    """
    stencil, kernels = settings.rule.stencil, settings.kernels
    near, offsets = dark_covariance.read_noisy_pixels(heatmap, peak.position)
    far = max(np.abs(offsets).max(), *(stencil.reach + len(k) // 2 for k in kernels))
    known = (status == Status.REFINED.value) & inside(
        peak.position, heatmap.shape, low=far, high=far
    )
    known &= jnp.all(jnp.isfinite(near))
    # Values are brought near one, because squares of tiny values would vanish.
    unit = inverse_power_of_two(jnp.where(known, peak.score, 1))
    values, near = (jnp.where(known, each * unit, 0) for each in (values, near))
    top = Peak(peak.position, jnp.where(known, peak.score * unit, 1))

    def model(values: jax.Array) -> Quadratic:
        return stencil.quadratic(_logs(values, top, settings)[0], settings.dim)

    wide = model(values)
    blob, known = dark_covariance.without_blur(wide, kernels, known)
    places = [
        jnp.asarray(offset, near.dtype) - moved
        for offset, moved in zip(offsets.T, wide.newton_step(known), strict=True)
    ]
    variance = dark_covariance.pixel_variance(near, places, blob)
    per_noise = dark_covariance.propagated(
        lambda v: model(v).newton_step(known), values, kernels, settings.offsets
    )
    return jnp.where(known, variance * per_noise, jnp.inf)


def _read_window(heatmap: jax.Array, position: Position, settings: DarkSettings) -> jax.Array:
    """The pixels that the blurred stencil depends on."""
    return read(heatmap, position, box(settings.radii), settings.rule.padding)


def _used(peak: Peak, shape: tuple[int, ...], rule: Rule) -> jax.Array:
    """Whether the rule takes a step from this peak: one answer, or ``[dim]`` with one per axis.

    The peak must be far enough inside, and positive if the rule has a sentinel.
    """
    (low, high), axes = rule.margin, [*zip(peak.position, shape[::-1], strict=True)]
    if rule.margin_across is None:
        within = inside(peak.position, shape, low=low, high=high)
    else:
        near, far = rule.margin_across
        across = [inside((at,), (size,), low=near, high=far) for at, size in axes]
        along = [inside((at,), (size,), low=low, high=high) for at, size in axes]
        sides = [(*across[:n], own, *across[n + 1 :]) for n, own in enumerate(along)]
        within = jnp.stack([functools.reduce(jnp.logical_and, each) for each in sides])
    return within if rule.missing is None else within & (peak.score > 0)


def _decided(values: jax.Array, around: jax.Array, peak: Peak, rule: Rule) -> jax.Array:
    """Whether rescaling the map could change nothing but a constant under the logarithm.

    The factor is the old maximum divided by the blurred one. It is at least 1, and at most the old
    maximum divided by the largest value in the stencil. So no value of at least the floor needs to
    be raised to it, and a map that is not higher than the floor becomes flat. But a value that is
    the small difference of large terms has lost its digits in float32.
    """
    top = jnp.max(values)
    highest = jnp.where(top > 0, top, 1)
    free = jnp.all(values >= jnp.maximum(rule.floor, -CANCELLED * jnp.min(around)))
    if not np.isfinite(rule.ceiling):
        return free
    free &= top / highest * peak.score <= rule.ceiling
    flat = (peak.score <= rule.floor) & (top > 0) | jnp.all(values >= rule.ceiling)
    return free | flat


def _step(
    values: jax.Array, peak: Peak, finite: jax.Array, heatmap: jax.Array, settings: DarkSettings
) -> Refined:
    """Coordinates, score and status from the values at ``settings.offsets``."""
    rule = settings.rule
    used = _used(peak, heatmap.shape, rule)
    margins = (*rule.margin, *(rule.margin_across or rule.margin))
    if rule.kernel is not None and min(margins) < rule.stencil.reach:
        values = _edge_repeated(values, peak.position, settings.offsets, heatmap.shape)
    if rule.refined_only:  # non-finite values give no step, but a gradient flows through them
        values = jnp.where(jnp.isfinite(values), values, 0)
    score = peak.score
    if rule.newton:
        step, score, status = _newton_step(values, peak, finite, used, heatmap, settings)
    else:
        reasons = {
            Status.NOT_FINITE: ~finite,
            Status.NO_PEAK: ~(score > 0),
            Status.BORDER: ~jnp.all(used),
        }
        step = _plain_step(values, finite, settings)
        if rule.centroid is not None:
            # With negative values, a centroid may lie anywhere.
            reasons[Status.STEP_TOO_LONG] = jnp.any(jnp.abs(step) > rule.centroid)
        status = status_of(reasons)
        taken = used & (status == Status.REFINED.value) if rule.refined_only else used
        step = jnp.where(taken, step, 0)
    coords = peak.coords + step
    if rule.shift or rule.shift_at_edge:
        coords += jnp.where(used, rule.shift, rule.shift_at_edge)
    if rule.missing is None:
        coords = jnp.where(jnp.isnan(peak.score), jnp.nan, coords)
    else:
        coords = jnp.where(peak.score > 0, coords, rule.missing)
    if (rule.score_scale, rule.score_shift) != (1, 0):
        score = score * rule.score_scale + rule.score_shift
    return Refined(coords, score, status)


def _plain_step(values: jax.Array, finite: jax.Array, settings: DarkSettings) -> jax.Array:
    """``[dim]``, a step of fixed length, to the centroid, or none."""
    rule, dim = settings.rule, settings.dim
    if rule.centroid is not None:
        return _to_centroid(jnp.where(finite, values, 0), settings.offsets)
    if not rule.fixed_step:
        return jnp.zeros(dim, values.dtype)
    gradient = jnp.stack(rule.stencil.quadratic(values, dim).gradient)
    return rule.fixed_step * jnp.sign(gradient)


def _to_centroid(values: jax.Array, offsets: np.ndarray) -> jax.Array:
    """``[dim]``, the mean offset, weighted by the values; 0 if their sum is not positive."""
    size = jnp.max(jnp.abs(values))
    values = values * inverse_power_of_two(size)
    total = jnp.sum(values)
    # A sum of this size is the rounding error of terms of both signs.
    known = total > len(values) * float(jnp.finfo(values.dtype).eps)
    moments = [jnp.sum(values * jnp.asarray(each, values.dtype)) for each in offsets.T]
    return jnp.where(known, jnp.stack(moments) / jnp.where(known, total, 1), 0)


def _newton_step(
    values: jax.Array,
    peak: Peak,
    finite: jax.Array,
    used: jax.Array,
    heatmap: jax.Array,
    settings: DarkSettings,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The step ``[dim]``, the score and the status."""
    rule, clamped, scale = settings.rule, jnp.bool_(False), jnp.ones_like(peak.score)
    if rule.logarithm:
        values, clamped = _logs(values, peak, settings)
    else:
        scale = inverse_power_of_two(jnp.max(jnp.abs(values)))
        values = values * scale
    model = rule.stencil.quadratic(values, settings.dim)

    surrounded = jnp.all(used) & rule.stencil.inside(peak.position, heatmap.shape)
    regular = _is_regular(model, scale, rule)
    status = _status(model, peak, heatmap, finite, surrounded, clamped, regular, settings)
    taken = status == Status.REFINED.value if rule.refined_only else jnp.any(used)
    if rule.ridge:
        model = model.ridged(rule.ridge * scale)
        regular = _is_regular(model, scale, rule)
    step = jnp.where(used, model.newton_step(taken & regular), 0)
    if rule.largest_component is not None:
        largest = jnp.max(jnp.abs(step))
        long = largest > rule.largest_component
        step = jnp.where(long, step / jnp.where(long, largest, 1) * rule.largest_component, step)
    score = peak.score
    if rule.score_at_step:
        score += jnp.where(finite, model.rise(step) / scale, 0)
    return step, score, status


def _is_regular(model: Quadratic, scale: jax.Array, rule: Rule) -> jax.Array:
    """Whether the determinant allows a Newton step; the values were multiplied by ``scale``."""
    if not rule.least_det:
        return model.det != 0
    least = functools.reduce(lambda least, _: least * scale, model.gradient, rule.least_det)
    return (model.det != 0) & (jnp.abs(model.det) >= least)


def _logs(values: jax.Array, peak: Peak, settings: DarkSettings) -> tuple[jax.Array, jax.Array]:
    """Logarithms of clamped values; and whether any value was raised to the floor.

    Values are brought near one by a power of two, and the clamp is scaled with them. The step does
    not depend on the scale, and a power of two changes no digit. So this is the mathematics of
    DarkPose, bit for bit.
    """
    rule = settings.rule
    score = jnp.where((peak.score > 0) & jnp.isfinite(peak.score), peak.score, 1)
    if not rule.scale_free and np.isfinite(rule.ceiling):
        # Values above the ceiling are lowered to it. If the score were much higher, its scale
        # would make the ceiling zero.
        score = jnp.minimum(score, rule.ceiling)
    scale = inverse_power_of_two(score)
    unit = score * scale if rule.scale_free else scale
    # The floor is far enough from zero for second derivatives to be finite.
    floor = jnp.maximum(rule.floor * unit, float(jnp.finfo(values.dtype).tiny) ** 0.5)
    values = values * scale
    clamped = jnp.any(values <= floor)
    values = jnp.maximum(values, floor)
    if np.isfinite(rule.ceiling):
        values = jnp.minimum(values, rule.ceiling * unit)
    return jnp.log(values), clamped


def _edge_repeated(
    values: jax.Array, position: Position, offsets: np.ndarray, shape: tuple[int, ...]
) -> jax.Array:
    """The stencil's values with those outside the map replaced by the nearest edge pixel's."""
    index = {tuple(offset): n for n, offset in reversed([*enumerate(offsets.tolist())])}
    for _ in range(np.abs(offsets).max()):  # each turn looks one pixel nearer to the peak
        for axis, (at, size) in enumerate(zip(position, shape[::-1], strict=True)):
            nearer = offsets.copy()
            nearer[:, axis] -= np.sign(nearer[:, axis])
            source = np.array([index[tuple(offset)] for offset in nearer.tolist()])
            moved = at + offsets[:, axis]
            values = jnp.where((moved < 0) | (moved >= size), values[source], values)
    return values


def _status(
    model: Quadratic,
    peak: Peak,
    heatmap: jax.Array,
    finite: jax.Array,
    surrounded: jax.Array,
    clamped: jax.Array,
    regular: jax.Array,
    settings: DarkSettings,
) -> jax.Array:
    step = model.newton_steps(regular)
    flat = is_missed(heatmap, peak, step, settings.radii)
    concave = model.concave & regular if settings.rule.least_det else model.concave
    return status_of(
        {
            Status.NOT_FINITE: ~finite,
            Status.NO_PEAK: ~(peak.score > 0),
            Status.BORDER: ~surrounded,
            Status.NOT_CONCAVE: ~concave | clamped | flat,
            Status.STEP_TOO_LONG: ~_is_credible(step, model, settings),
        }
    )


def _is_credible(
    step: tuple[jax.Array, ...], model: Quadratic, settings: DarkSettings
) -> jax.Array:
    """Whether a step is short, or not longer than the sigma of the blob and ``WIDEST``.

    A step that the rule would shorten is not credible.

    A noisy wide blob may have its maximum far from its middle. The blurred blob has the variance
    s^2 / (s g) along a step s with the gradient g. The variance of the blur is subtracted from it
    to get that of the blob. The condition is written without quotients.
    """
    if settings.rule.largest_component is not None:
        return jnp.max(jnp.abs(jnp.stack(step))) <= settings.rule.largest_component
    variances = kernel_variances(settings.kernels).tolist()
    none = jnp.zeros_like(step[0])
    square = sum((way * way for way in step), none)
    rise = sum((way * slope for way, slope in zip(step, model.gradient, strict=True)), none)
    blur = sum((way * way * size for way, size in zip(step, variances, strict=True)), none)
    within_blob = rise * (square * square + blur) <= square * square
    return (square <= settings.longest**2) | (within_blob & (square <= WIDEST**2))


def refine_from_blurred(heatmap: jax.Array, settings: DarkSettings) -> Refined:
    """Refine the peak of one map, from a blur of the whole map."""
    return _refine_from_map(heatmap, settings, as_float(heatmap).dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def refine_in_float64(heatmap: jax.Array, settings: DarkSettings) -> tuple[jax.Array, jax.Array]:
    """Coordinates and status of the peak of a map, from a blur of the whole map.

    This is computed in float64, whatever the precision outside.
    """
    with jax.enable_x64(True):
        found = _refine_from_map(heatmap, settings, jnp.dtype("float64"))
        return found.coords.astype(as_float(heatmap).dtype), found.status


@refine_in_float64.defjvp
def _refine_in_float64_jvp(settings, primals, tangents):
    # float64 code cannot be differentiated where float64 is off.
    def plain(heatmap: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = refine_from_blurred(heatmap, settings)
        return found.coords, found.status

    _, tangent = jax.jvp(plain, primals, tangents)
    return refine_in_float64(*primals, settings), tangent


def _refine_from_map(heatmap: jax.Array, settings: DarkSettings, dtype: jnp.dtype) -> Refined:
    # The peak is found in the dtype of the map, because not every integer is a float.
    peak, rule = find_start(heatmap, settings.rule), settings.rule
    peak, heatmap = peak._replace(value=peak.value.astype(dtype)), heatmap.astype(dtype)
    whole, upright = blur_and_rescale(
        heatmap, settings.kernels, padding=rule.padding, rescale=rule.rescale
    )
    if rule.peak_of_blurred:
        peak = find_start(whole, rule)
    values = read(whole, peak.position, settings.offsets)
    if not rule.of_whole_map:
        finite = jnp.all(jnp.isfinite(_read_window(heatmap, peak.position, settings)))
        return _step(values, peak, finite, heatmap, settings)
    finite = jnp.all(jnp.isfinite(values)) & jnp.isfinite(peak.score)
    values = _bounded(jnp.where(jnp.isnan(values), 0, values))
    found = _step(values, peak, finite, heatmap, settings)
    # The peak of a flipped map is the lowest place of the blurred one.
    flipped = (found.status == Status.REFINED.value) & ~upright
    return found._replace(status=jnp.where(flipped, Status.NOT_CONCAVE.value, found.status))
