"""Samplers from noise at time 0 to data at time 1; `nfe`, the network calls of a sample, is counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from numbers import Integral

import torch
from torch import Tensor

from .conditioning import guided
from .flow_map import FlowMap
from .sampler_names import calls_a_step, check_sampler


@dataclass(frozen=True)
class Samples:
    """Points (count, ...) and the network calls of each."""

    points: Tensor
    nfe: int


class CountedCalls(FlowMap):
    """A flow map that counts how often it is evaluated."""

    def __init__(self, inner: FlowMap):
        super().__init__()
        self.inner, self.calls = inner, 0

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner.average_velocity(s, t, x)

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner.velocity(t, x)

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner.jump(s, t, x)


def _intervals(steps: int) -> Iterator[tuple[float, float]]:
    """`steps` equal intervals of [0, 1]."""
    if not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"a sampler needs at least one step, not {steps}: give a whole number")
    return ((k / steps, (k + 1) / steps) for k in range(steps))


def _full(x: Tensor, time: float) -> Tensor:
    return torch.full((len(x),), time, dtype=x.dtype, device=x.device)


@torch.no_grad()
def jumps(flow_map: FlowMap, x0: Tensor, steps: int) -> Samples:
    """`steps` equal jumps from `x0` (count, ...): X_{(N-1)/N,1} o ... o X_{0,1/N}. One call a jump.

    Raises ValueError, as the other samplers do, for less than one step.

    >>> drawn = jumps(StraightFlow(torch.eye(2), torch.ones(2)), torch.zeros(1, 2), steps=4)
    >>> drawn.points, drawn.nfe
    (tensor([[1., 1.]]), 4)
    """
    counted, x = CountedCalls(flow_map), x0
    for s, t in _intervals(steps):
        x = counted.jump(_full(x, s), _full(x, t), x)
    return Samples(x, counted.calls)


@torch.no_grad()
def euler(flow_map: FlowMap, x0: Tensor, steps: int) -> Samples:
    """Explicit Euler on dx/dt = b_t(x), `steps` equal steps from `x0` (count, ...). One call a step.

    >>> euler(StraightFlow(torch.eye(2), torch.ones(2)), torch.zeros(1, 2), steps=4).nfe
    4
    """
    counted, x = CountedCalls(flow_map), x0
    for s, t in _intervals(steps):
        x = x + (t - s) * counted.velocity(_full(x, s), x)
    return Samples(x, counted.calls)


@torch.no_grad()
def heun(flow_map: FlowMap, x0: Tensor, steps: int) -> Samples:
    """Heun's second-order method, `steps` equal steps from `x0` (count, ...). Two calls a step.

    >>> heun(StraightFlow(torch.eye(2), torch.ones(2)), torch.zeros(1, 2), steps=4).nfe
    8
    """
    counted, x = CountedCalls(flow_map), x0
    for s, t in _intervals(steps):
        first = counted.velocity(_full(x, s), x)
        second = counted.velocity(_full(x, t), x + (t - s) * first)
        x = x + (t - s) / 2 * (first + second)
    return Samples(x, counted.calls)


@torch.no_grad()
def adaptive(flow_map: FlowMap, x0: Tensor, tolerance: float = 1e-5) -> Samples:
    """Dormand-Prince 5(4) from `x0` (count, ...), `tolerance` the relative and absolute one of a step.

    Raises ModuleNotFoundError where torchdiffeq is not installed, which the extra `adaptive` brings, and
    ValueError for a tolerance above 1 or finer than the numbers of `x0`, and for a flow that is not finite.

    >>> drawn = adaptive(StraightFlow(torch.eye(2), torch.ones(2)), torch.zeros(1, 2))
    >>> torch.allclose(drawn.points, torch.ones(1, 2))
    True
    """
    if not (least := torch.finfo(x0.dtype).eps) <= tolerance <= 1:
        raise ValueError(f"the tolerance of a step is {tolerance:g}: give one from {least:.0e} to 1")
    try:
        import torchdiffeq  # here, and not above: it loads scipy, and the other samplers do without
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("adaptive needs torchdiffeq: pip install 'fewstep[adaptive]'") from error
    counted = CountedCalls(flow_map)
    ends = torch.tensor([0.0, 1.0], dtype=x0.dtype, device=x0.device)
    # without step_t the last step runs past t = 1, where no velocity is defined
    how = dict(rtol=tolerance, atol=tolerance, method="dopri5", options={"step_t": ends[1:]})

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return counted.velocity(t.to(x.dtype).expand(len(x)), x)

    try:
        path = torchdiffeq.odeint(velocity, x0, ends, **how)
    except AssertionError as error:  # torchdiffeq's, where a step no longer moves the time
        found = f"a tolerance of {tolerance:g} needs steps too short for {x0.dtype} ({error})"
        raise ValueError(f"{found}: give a larger one, or mend a flow that is not finite") from None
    return Samples(path[-1], counted.calls)


@torch.no_grad()
def stochastic(
    flow_map: FlowMap, x0: Tensor, steps: int, beta: float, generator: torch.Generator, scale: float
) -> Samples:
    """SCFlow's stochastic sampler (arXiv 2412.16906), noise at 0: one Euler step from time s to the data,

        xhat = x + (1 - s) b_s(x),  and back to the next time,  x = t xhat + (1 - t) [(1 - beta) x0 + beta e],

    with fresh e ~ N(0, scale^2) as x0 is, from `generator` on the CPU, one call a step. For 0 < beta < 1 the
    mixture's variance is (1 - beta)^2 + beta^2 < 1 times theirs, as in the paper.
    """
    counted, x = CountedCalls(flow_map), x0
    for s, t in _intervals(steps):
        predicted = x + (1 - s) * counted.velocity(_full(x, s), x)
        fresh = scale * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        x = t * predicted + (1 - t) * ((1 - beta) * x0 + beta * fresh)
    return Samples(x, counted.calls)


def _fresh(x: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Noise like `x` of the deviation `scale`, drawn on the CPU."""
    return scale * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


@torch.no_grad()
def renoised(
    flow_map: FlowMap, x0: Tensor, steps: int, gamma: float, generator: torch.Generator, scale: float
) -> Samples:
    """Jumps that go beyond t and take noise up again (gamma-sampling, arXiv 2310.02279), one call a step.

    A jump from s ends at t~ >= t, where the noise, relative to the data, is that of t times
    sqrt(1 - gamma^2): (1 - t~) / t~ = sqrt(1 - gamma^2) (1 - t) / t. Fresh noise fills up what is lacking,

        x = (t / t~) X_{s,t~}(x) + sqrt((1 - t)^2 - (t / t~)^2 (1 - t~)^2) e,   e ~ N(0, scale^2),

    and the root is gamma (1 - t). gamma = 0 gives `jumps`, gamma = 1 the sampler of consistency models, whose
    jumps all end in the data, t~ = 1. Exact for an exact map of the linear interpolant from Gaussian noise.
    """
    counted, x = CountedCalls(flow_map), x0
    for s, t in _intervals(steps):
        shrink = t + sqrt(1 - gamma**2) * (1 - t)  # t / t~
        x = shrink * counted.jump(_full(x, s), _full(x, t / shrink), x)
        if gamma > 0 and t < 1:
            x = x + gamma * (1 - t) * _fresh(x, scale, generator)
    return Samples(x, counted.calls)


@torch.no_grad()
def sde(
    flow_map: FlowMap, x0: Tensor, steps: int, epsilon: float, generator: torch.Generator, scale: float
) -> Samples:
    """The stochastic flow of a velocity (arXiv 2303.08797), by Euler and Maruyama, one call a step:

        dX = [b_t + D_t score_t] dt + sqrt(2 D_t) dW,   score_t(x) = (t b_t(x) - x) / ((1 - t) scale^2).

    Every D_t leaves the law of X_t as it is. With D_t = epsilon scale^2 (1 - t) the drift is
    b + epsilon (t b - x), without a division, and stable up to the data. The last step adds no noise, which
    nothing after it could take away: it follows b alone. epsilon = 0 gives `euler`. For the linear
    interpolant from Gaussian noise of the deviation `scale`.
    """
    counted, x = CountedCalls(flow_map), x0
    for s, t in _intervals(steps):
        b = counted.velocity(_full(x, s), x)
        if epsilon == 0 or t == 1:
            x = x + (t - s) * b
            continue
        drift = b + epsilon * (s * b - x)
        x = x + (t - s) * drift + sqrt(2 * epsilon * (1 - s) * (t - s)) * _fresh(x, scale, generator)
    return Samples(x, counted.calls)


NOISY = {"stochastic": stochastic, "renoised": renoised, "sde": sde}
Sampler = Callable[[FlowMap, Tensor, int], Samples]
# the tables' "steps" of an adaptive sampler are the decimal digits of its tolerance: 2 for 0.01
SAMPLERS: dict[str, Sampler] = {"jumps": jumps, "euler": euler, "heun": heun}
SAMPLERS["adaptive"] = lambda flow_map, x0, digits: adaptive(flow_map, x0, 10.0**-digits)


def named(name: str, generator: torch.Generator, scale: float | None = None) -> Sampler:
    """The sampler called `name`; raises as `check_sampler`.

    One of NOISY draws fresh noise from `generator`, of the deviation `scale` of the noise that it starts
    from; ValueError without one. "guided-<scale>" is `euler` under that guidance, two calls a step, one at
    scale 1; it raises as `guided`.
    """
    if check_sampler(name) in SAMPLERS:
        return SAMPLERS[name]
    kind, _, number = name.partition("-")
    if kind in NOISY:
        if scale is None:
            raise ValueError(f"'{name}' draws fresh noise: give the `scale` of the noise that it starts from")
        return lambda flow_map, x0, steps: NOISY[kind](flow_map, x0, steps, float(number), generator, scale)

    def under_guidance(flow_map: FlowMap, x0: Tensor, steps: int) -> Samples:
        drawn = euler(guided(flow_map, float(number)), x0, steps)
        return Samples(drawn.points, drawn.nfe * (calls_a_step(name) or 1))

    return under_guidance
