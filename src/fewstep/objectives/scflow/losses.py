"""SCFlow's losses (arXiv 2412.16906) in its notation: data z_0 at time 0, noise z_1 at 1.

Each returns one value a sample, (batch,); predictions are arguments, so that losses share a network's call.
f(z, t) = z - t v(z, t) predicts z_0, d is pseudo_huber, d_down and d_up are those of `moves`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...flows.interpolants import per_sample
from .reversed_time import Reversed, between

# D(z) of latents (batch, ...), or D(z, parts) of `parts` equal batches in one, whose statistics stay apart
Critic = Callable[..., Tensor]


@dataclass(frozen=True)
class Moves:
    """Points (batch, ...) on the teacher's flow on both sides of z_t, and their times (batch,)."""

    down: Tensor
    t_down: Tensor
    up: Tensor
    t_up: Tensor


def pseudo_huber(x: Tensor, y: Tensor, c: float) -> Tensor:
    """d(x, y) = mean of sqrt((x - y)^2 + c^2) - c over all but the batch: (batch, ...) -> (batch,)."""
    return (((x - y).square() + c * c).sqrt() - c).flatten(1).mean(1)


@torch.no_grad()
def moves(teacher: Reversed, z: Tensor, t: Tensor, u_down: Tensor, u_up: Tensor, delta: float) -> Moves:
    """Both moves along the teacher's flow from one call of it.

    z_{t - d_down} = z_t - d_down v(z_t, t),  d_down = u_down min(t, delta),
    z_{t + d_up} = z_t + d_up v(z_t, t),  d_up = u_up min(1 - t, delta);  u_down, u_up in [0, 1), (batch,).
    """
    v = teacher.v(z, t)
    down, up = u_down * t.clamp(max=delta), u_up * (1 - t).clamp(max=delta)
    return Moves(z - per_sample(down, z) * v, t - down, z + per_sample(up, z) * v, t + up)


def truncated_consistency(
    predicted: Tensor, z0: Tensor, target: Tensor, t_down: Tensor, truncation: float, c: float
) -> Tensor:
    """L_TC = d(f_theta(z_t, t), sg y), y = z_0 if t' < t_trunc, else f_target(z_t', t'); t' = t - d_down.

    `predicted` is f_theta(z_t, t), `target` the target network's. Consistency distillation at `truncation` 0.
    """
    y = torch.where(per_sample(t_down < truncation, z0), z0, target)
    return pseudo_huber(predicted, y.detach(), c)


def bidirectional_consistency(predicted: Tensor, target: Tensor, c: float) -> Tensor:
    """L_BI = d(f_theta(z_t, t), sg f_target(z_{t + d_up}, t + d_up)). Not truncated."""
    return pseudo_huber(predicted, target.detach(), c)


def reflow(student: Reversed, one_step: Tensor, z1: Tensor, t: Tensor) -> Tensor:
    """L_RF = |f_theta(zhat_t, t) - sg zhat_0|^2, zhat_t = (1 - t) sg zhat_0 + t z_1; a mean over dimensions.

    `one_step` is zhat_0 = f_theta(z_1, 1). It pulls the path in few steps to the one-step result.
    """
    fixed = one_step.detach()
    return (student.f(between(fixed, z1, t), t) - fixed).square().flatten(1).mean(1)


def adversarial(critic: Critic, one_step: Tensor) -> Tensor:
    """L_G = softplus(-D(zhat_0)), non-saturating; the gradient goes through zhat_0."""
    return F.softplus(-critic(one_step))


def discriminator(critic: Critic, z0: Tensor, one_step: Tensor, gamma: float) -> Tensor:
    """L_D = softplus(-D(z_0)) + softplus(D(sg zhat_0)) + (gamma / 2) |grad D(z_0)|^2 (R1), (batch,).

    With `gamma` 0 data and predictions, as many of each, go through D in one call. The gradient is of the
    sum over the batch, whose samples meet in D's minibatch statistic alone.
    """
    if gamma == 0:
        on_data, on_sample = critic(torch.cat([z0.detach(), one_step.detach()]), 2).chunk(2)
        return F.softplus(-on_data) + F.softplus(on_sample)
    # in one call the predictions would be carried through the penalty for nothing
    real = z0.detach().requires_grad_()
    on_data, on_sample = critic(real), critic(one_step.detach())
    loss = F.softplus(-on_data) + F.softplus(on_sample)
    (slope,) = torch.autograd.grad(on_data.sum(), real, create_graph=True)
    return loss + gamma / 2 * slope.square().flatten(1).sum(1)
