r"""Consistency flow matching: straight paths in each of K segments of time (arXiv 2407.02398).

$$ |f_t(I_t)-\mathrm{sg} f_r(I_r)|^2 + \alpha |v_t(I_t)-\mathrm{sg} v_r(I_r)|^2, f_t(x) = x + (T-t) v_t(x) $$
"""

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch, per_sample
from .common import Count, Share, Step, squared_norm, within


def velocity_consistency(
    student: FlowMap, batch: Batch, segments: Count = 2, delta: Step = 1e-3, alpha: float = 1e-5,
    threshold: Share = 0.9, warmup: Share = 1 / 3,
) -> Tensor:  # fmt: skip
    """The loss above, t = `batch.s`, r = min(t + delta, 1), T the end of t's segment, v_t = v_{t,t}.

    From r = `threshold` on I_T takes the place of f_r(I_r), and from t on the second term is left out, as it
    is within 1.01 delta of T. In a first phase, the share `warmup` of training, `threshold` is 0: that is
    `si` at time t, times (T - t)^2. Of order delta^2 elsewhere.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((velocity_consistency(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    within("segments", segments, Count)
    within("delta", delta, Step)
    within("threshold", threshold, Share)
    within("warmup", warmup, Share)
    t, r = batch.s, (batch.s + delta).clamp(max=1)
    end = ((t * segments).floor() + 1).clamp(max=segments) / segments
    now, later = batch.at(t).point, batch.at(r).point
    v, w = student.velocity(t, now), student.velocity(r, later).detach()
    latest = threshold if batch.progress >= warmup else 0.0
    ahead = later + per_sample(end - r, later) * w
    target = ahead.where(per_sample(r < latest, w), batch.at(end).point)
    alike = alpha * squared_norm(v - w) * ((t < latest) & (end - t > 1.01 * delta))
    return squared_norm(now + per_sample(end - t, now) * v - target) + alike
