"""From an integer peak to a sub-pixel coordinate, by any rule."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax import rules
from dark_jax._codecs import dark_covariance
from dark_jax._core import checks
from dark_jax._core.keypoints import Status, status_of
from dark_jax._core.numerics import as_float, inverse_power_of_two
from dark_jax._ops.flat_top import at_middle, is_missed
from dark_jax._ops.gaussian import blur_to_old_maximum, gaussian_kernel, kernel_sigma
from dark_jax._ops.peak import Peak, find_peak
from dark_jax._ops.pixels import Position, box, inside, read
from dark_jax._ops.quadratic import Quadratic
from dark_jax._ops.window import Kernels, blurred, kernel_variances
from dark_jax.rules import Rescale, Rule

# A map is computed in float64 if one of its blurred values is below this many times the magnitude
# of the most negative pixel in the window, because its digits have cancelled.
CANCELLED = 0.1
# The longest step in pixels that is credible because the blob is wide.
WIDEST = 3.0


class DarkSettings(NamedTuple):
    """A rule and the blur that it uses, as ``kernel_size`` or ``blur_sigma``; hashable.

    ``covariance`` says whether the covariance is estimated too.
    """

    rule: Rule
    dim: int
    kernel_size: int | None
    blur_sigma: tuple[float, ...] | None
    covariance: bool = False

    @property
    def kernels(self) -> Kernels:
        """One kernel per axis, (x, y, ...)."""
        if self.blur_sigma is not None:
            return tuple(gaussian_kernel(sigma) for sigma in self.blur_sigma)
        if self.rule.kernel is None:
            return (np.ones(1),) * self.dim
        assert self.kernel_size is not None
        return (self.rule.kernel(self.kernel_size),) * self.dim

    @property
    def radii(self) -> tuple[int, ...]:
        """The radii of the window that the blurred stencil depends on, (x, y, ...)."""
        return tuple(self.rule.stencil.reach + len(kernel) // 2 for kernel in self.kernels)

    @property
    def longest(self) -> float:
        """The longest credible step in pixels."""
        if self.kernel_size is not None:
            return max(self.rule.longest, kernel_sigma(self.kernel_size))
        assert self.blur_sigma is not None
        return max(self.rule.longest, *self.blur_sigma)

    @property
    def offsets(self) -> np.ndarray:
        """``[n, dim]``, the offsets of the pixels of the stencil."""
        return self.rule.stencil.offsets(self.dim)


def check_settings(
    rule: Rule,
    *,
    dim: int,
    kernel_size: int | None = None,
    blur_sigma: float | tuple[float, ...] | None = None,
    covariance: bool = False,
) -> DarkSettings:
    """Check the arguments of a decoder and return them."""
    if not isinstance(rule, Rule):
        names = ", ".join(f"rules.{one.name}" for one in (rules.GUARDED, *rules.PUBLISHED))
        raise TypeError(f"rule must be a Rule of dark_jax.rules, as {names}, got {rule!r}")
    if dim not in rule.dims:
        expected = " or ".join(map(str, rule.dims))
        raise ValueError(
            f"rule {rule.name} is for maps of dimension {expected}, got {dim}: give other axes, or "
            "rules.GUARDED"
        )
    if kernel_size is not None and blur_sigma is not None:
        raise ValueError(
            f"give kernel_size or blur_sigma, not both: got kernel_size={kernel_size}, "
            f"blur_sigma={blur_sigma}"
        )
    if rule.kernel is None and not (kernel_size is None and blur_sigma is None):
        given = f"kernel_size={kernel_size}" if blur_sigma is None else f"blur_sigma={blur_sigma}"
        raise ValueError(f"rule {rule.name} does not blur: leave out {given}")
    if checks.flag("covariance", covariance) and not rule.covariance:
        raise ValueError(
            f"covariance must be left out with rule {rule.name}: only rules.GUARDED estimates it"
        )
    if blur_sigma is not None:
        each = checks.positive_each("blur_sigma", blur_sigma, dim)
        return DarkSettings(rule, dim, None, each, covariance)
    size = rule.kernel_size if kernel_size is None else kernel_size
    return DarkSettings(rule, dim, checks.odd_kernel("kernel_size", size), None, covariance)


class Refined(NamedTuple):
    """The coordinates ``[dim]``, status and, if asked for, covariance ``[dim, dim]`` of a peak.

    ``exact`` is False if the rule needs the whole map for them. It is None for rules that never
    need the whole map.
    """

    coords: jax.Array
    status: jax.Array
    covariance: jax.Array | None
    exact: jax.Array | None


def find_start(heatmap: jax.Array, rule: Rule) -> Peak:
    """The maximum of a map where the rule starts; the rule decides which one if several tie."""
    peak = find_peak(heatmap)
    return at_middle(heatmap, peak) if rule.flat_top else peak


def refine_from_window(heatmap: jax.Array, peak: Peak, settings: DarkSettings) -> Refined:
    """Refine a peak of one map from the pixels around it."""
    rule = settings.rule
    around = _read_window(heatmap, peak.position, settings)
    values = blurred(around, settings.kernels, settings.offsets)
    finite = jnp.isfinite(values[0])
    if rule.clip_infinity:
        # Zeros in the blur matrices spread an infinity over the stencil. The blur and clamp of the
        # originals do not. The limit is half of the largest number, so that rounding does not take
        # the sums beyond it.
        largest = float(jnp.finfo(around.dtype).max) / 2
        around = jnp.clip(around, -largest, largest)
        values = blurred(around, settings.kernels, settings.offsets)
    coords, status = _step(values, peak, finite, heatmap, settings)
    covariance = None
    if settings.covariance:
        covariance = _covariance(heatmap, peak, values, status, settings)
    if rule.rescale is Rescale.NO:
        return Refined(coords, status, covariance, None)
    decided = finite & _decided(values, around, peak, rule)
    return Refined(coords, status, covariance, decided | ~_used(peak, heatmap.shape, rule))


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
    """Whether the rule goes on from this peak, which must be positive and far enough inside."""
    low, high = rule.margin
    return (peak.score > 0) & inside(peak.position, shape, low=low, high=high)


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
    values: jax.Array,
    peak: Peak,
    finite: jax.Array,
    heatmap: jax.Array,
    settings: DarkSettings,
) -> tuple[jax.Array, jax.Array]:
    """Coordinates and status from the blurred values at the stencil's offsets."""
    rule, shape = settings.rule, heatmap.shape
    used = _used(peak, shape, rule)
    if rule.refined_only:  # non-finite values give no step, but a gradient flows through them
        values = jnp.where(jnp.isfinite(values), values, 0)
    clamped = jnp.bool_(False)
    if rule.fixed_step is None:
        values, clamped = _logs(values, peak, settings)
    if max(rule.margin) < rule.stencil.reach:
        values = _edge_repeated(values, peak.position, settings.offsets, shape)
    model = rule.stencil.quadratic(values, settings.dim)

    surrounded = used & rule.stencil.inside(peak.position, shape)
    status = _status(model, peak, heatmap, finite, surrounded, clamped, settings)
    taken = status == Status.REFINED.value if rule.refined_only else used
    if rule.fixed_step is not None:
        step = jnp.where(taken, rule.fixed_step * jnp.sign(jnp.stack(model.gradient)), 0)
    else:
        model = model.ridged(rule.ridge) if rule.ridge else model
        step = model.newton_step(taken & (model.det != 0))
    coords = peak.coords + step
    if rule.missing is not None:
        return jnp.where(peak.score > 0, coords, rule.missing), status
    return jnp.where(jnp.isnan(peak.score), jnp.nan, coords), status


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
    settings: DarkSettings,
) -> jax.Array:
    newton = settings.rule.fixed_step is None
    step = model.newton_steps(model.det != 0)
    flat = is_missed(heatmap, peak, step, settings.radii)
    return status_of(
        {
            Status.NOT_FINITE: ~finite,
            Status.NO_PEAK: ~(peak.score > 0),
            Status.BORDER: ~surrounded,
            Status.NOT_CONCAVE: newton & (~model.concave | clamped | flat),
            Status.STEP_TOO_LONG: newton & ~_is_credible(step, model, settings),
        }
    )


def _is_credible(
    step: tuple[jax.Array, ...], model: Quadratic, settings: DarkSettings
) -> jax.Array:
    """Whether a step is short, or not longer than the sigma of the blob and ``WIDEST``.

    A noisy wide blob may have its maximum far from its middle. The blurred blob has the variance
    s^2 / (s g) along a step s with the gradient g. The variance of the blur is subtracted from it
    to get that of the blob. The condition is written without quotients.
    """
    variances = kernel_variances(settings.kernels).tolist()
    none = jnp.zeros_like(step[0])
    square = sum((way * way for way in step), none)
    rise = sum((way * slope for way, slope in zip(step, model.gradient, strict=True)), none)
    blur = sum((way * way * size for way, size in zip(step, variances, strict=True)), none)
    within_blob = rise * (square * square + blur) <= square * square
    return (square <= settings.longest**2) | (within_blob & (square <= WIDEST**2))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def refine_from_map(heatmap: jax.Array, settings: DarkSettings) -> tuple[jax.Array, jax.Array]:
    """Coordinates and status of the maximum of a map, from a blur of the whole map.

    This is computed in float64, whatever the precision outside.
    """
    with jax.enable_x64(True):
        coords, status = _refine_from_map(heatmap, settings, jnp.dtype("float64"))
        return coords.astype(as_float(heatmap).dtype), status


@refine_from_map.defjvp
def _refine_from_map_jvp(settings, primals, tangents):
    # float64 code cannot be differentiated where float64 is off.
    [heatmap] = primals
    plain = functools.partial(_refine_from_map, settings=settings, dtype=as_float(heatmap).dtype)
    _, tangent = jax.jvp(plain, primals, tangents)
    return refine_from_map(*primals, settings), tangent


def _refine_from_map(
    heatmap: jax.Array, settings: DarkSettings, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    # The peak is found in the dtype of the map, because not every integer is a float.
    peak, rule = find_start(heatmap, settings.rule), settings.rule
    peak, heatmap = peak._replace(value=peak.value.astype(dtype)), heatmap.astype(dtype)
    finite = jnp.all(jnp.isfinite(_read_window(heatmap, peak.position, settings)))
    keep_negative = rule.rescale is Rescale.TO_OLD_MAXIMUM_IF_POSITIVE
    whole = blur_to_old_maximum(heatmap, settings.kernels, keep_negative=keep_negative)
    values = read(whole, peak.position, settings.offsets)
    return _step(values, peak, finite, heatmap, settings)
