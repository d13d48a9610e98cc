"""What is said of one number a seed: its interval, its effect and a sign test; and two of the numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize, stats

CONFIDENCE = 0.95
TAIL = (1 + CONFIDENCE) / 2
# seeds that agree to this share of their largest value differ by rounding
ROUNDING = 1e-12
# beyond this |t| the noncentrality is proportional to t, to six digits
FAR = 1e3


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The Student t interval of the mean; without bounds when there are fewer than two values."""
    if len(values) < 2:
        return -np.inf, np.inf
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    reach = float(stats.t.ppf(TAIL, len(values) - 1)) * error
    return mean - reach, mean + reach


def verdict(low: float, high: float, threshold: float) -> str:
    if low > threshold:
        return "supported"
    return "contradicted" if high < threshold else "undecided"


def effect(values: Sequence[float], threshold: float) -> tuple[float, float, float]:
    r"""(mu - threshold) / sigma of the seeds, in standard deviations: an estimate and its 95 % interval.

    Of n independent normal values with mean m and sample deviation s,

    $$ t = \sqrt n \, (m - \mathrm{threshold}) / s $$

    has the noncentral t distribution of n - 1 degrees of freedom with noncentrality sqrt(n) effect. The
    bounds are the effects under which t, or less, has the probabilities 0.975 and 0.025; the estimate is that
    under which it has 0.5, which is median-unbiased. Hedges' factor makes the mean of (m - threshold) / s
    right, and is no help with few seeds: of two it is 0, since t then has no mean. Where the values are
    differences of pairs, as those of most claims are, this is Cohen's d_z. The bounds leave 0 out exactly
    where Student's interval leaves the threshold out.

    NaN without bounds for fewer than two values, and for values that agree: they say nothing of sigma.
    """
    count, spread = len(values), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if spread <= ROUNDING * np.max(np.abs(values)):
        return np.nan, -np.inf, np.inf
    t = np.sqrt(count) * (np.mean(values) - threshold) / spread
    scale = max(abs(t) / FAR, 1.0)

    def noncentrality(p: float) -> float:
        def beyond(shift: float) -> float:
            return float(stats.nct.cdf(abs(t) / scale, count - 1, shift)) - p

        return scale * float(optimize.brentq(beyond, -2, 3 * abs(t) / scale + 3, xtol=1e-10))

    found = [noncentrality(p) / np.sqrt(count) for p in (TAIL, 0.5, 1 - TAIL)]
    low, middle, high = found if t >= 0 else [-own for own in reversed(found)]
    return float(middle), float(low), float(high)


def sign_test(values: Sequence[float], threshold: float) -> float:
    """The exact one-sided p of the sign test: that as many seeds, or more, are above by tossing a coin each.

    A value that equals the threshold is not above it. Of n seeds p is never less than 2^-n.
    """
    above = int(np.sum(np.asarray(values) > threshold))
    return float(stats.binomtest(above, len(values), alternative="greater").pvalue)


def calls_to_match(curve: pd.DataFrame, quality: pd.Series, by: str = "train_seed") -> tuple[float, ...]:
    """The calls at which `curve` reaches `quality`, seed by seed, by log-log interpolation; lower is better.

    `curve` holds the measured rows of one method and metric; `by` is its column that indexes `quality`. Its
    fewest calls where they are better already, its most where none is; ValueError for a seed without rows.
    """
    values = []
    for seed, target in quality.items():
        own = curve[curve[by] == seed].groupby("nfe").value.mean().sort_index()
        if own.empty:
            raise ValueError(f"the curve has no row with {by} {seed}")
        best = own.cummin()[::-1]
        calls = np.interp(np.log(target), np.log(best.to_numpy()), np.log(best.index.to_numpy()))
        values.append(float(np.exp(calls)))
    return tuple(values)


def instability(norms: np.ndarray) -> float:
    """The 99th percentile of gradient norms over their median, after the first tenth of training."""
    settled = norms[len(norms) // 10 :]
    return float(np.percentile(settled, 99) / np.median(settled))
