"""SiD's loss (arXiv 2404.04057) in this project's notation: noise at time 0, data at time 1, linear path."""

from torch import Tensor

from ...flows.flow_map import Velocity
from ...flows.interpolants import per_sample

# of |x - D_b|, which vanishes at t = 1
LEAST_SCALE = 1e-3


def denoised(velocity: Velocity, t: Tensor, point: Tensor) -> Tensor:
    """D_v = I_t + (1 - t) v_t(I_t), which is E[x | I_t] for the velocity of the law of x; (batch, ...)."""
    return point + per_sample(1 - t, point) * velocity.velocity(t, point)


def score_identity(
    teacher: Velocity, fake: Velocity, x: Tensor, noise: Tensor, t: Tensor, alpha: float = 1.2
) -> Tensor:
    """(D_b - D_f) . [(D_b - x) - alpha (D_b - D_f)] / sg mean |x - D_b|, shape (batch,).

    `x` are the student's samples and `noise` is fresh, (batch, ...), t in [0, 1) is (batch,); b is `teacher`,
    f is `fake`, the velocity of the law of x, at I_t = (1 - t) noise + t x. Their weights are not to learn
    from it; x is, also through D_b and D_f. For the exact f, E[(D_b - D_f) . (D_b - x)] = E|D_b - D_f|^2,
    (1 - t)^2 times the squared distance of the velocities; the distance itself would have a gradient through
    f's dependence on the student, which is not at hand, and this form has less of it to miss. It is zero
    where f = b, and in the mean negative for alpha > 1.

    >>> flow, x = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((score_identity(flow, flow, x, torch.randn(8, 2), torch.rand(8)) == 0).all())
    True
    """
    point = per_sample(1 - t, x) * noise + per_sample(t, x) * x
    real, drawn = denoised(teacher, t, point), denoised(fake, t, point)
    apart = real - drawn
    scale = (x - real).detach().abs().flatten(1).mean(1).clamp(min=LEAST_SCALE)
    return (apart * ((real - x) - alpha * apart)).flatten(1).sum(1) / scale
