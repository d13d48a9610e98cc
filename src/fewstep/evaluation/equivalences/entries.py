"""What is the same under two names, or nearly: the rows of the table of equivalences."""

from ...objectives.esd import esd
from ...objectives.imeanflow import imeanflow
from ...objectives.meanflow import meanflow
from .. import eulerian_family
from .check import Equivalence
from .formulas import (
    align_your_flow,
    boot,
    contrastive,
    improved_mean_flow,
    mean_flow,
    member,
    normalised,
    progressive,
    semigradient_of_emd,
    shortcut,
    split_mean_flow,
    terminal_velocity,
    trajectory,
)

ARXIV = "[arXiv {0}](https://arxiv.org/abs/{0})".format
TOTAL = r"(\partial_s + b_s \cdot \nabla)\, v_{s,t}(I_s)"
DISTILLED = rf"\big|v_{{s,t}} - \mathrm{{sg}}\,[b_s + (t-s) {TOTAL}]\big|^2"
MEANFLOW = (
    r"\big|v_{s,t} - \mathrm{sg}\,[\dot I_s + (t-s)(\partial_s + \dot I_s \cdot \nabla) v_{s,t}]\big|^2"
)
IMPROVED = (
    r"\big|v_{s,t} - \dot I_s - (t-s)\, \mathrm{sg}\,[(\partial_s + v_{s,s} \cdot \nabla) v_{s,t}]\big|^2"
)
FAMILY = r"\big|v_{s,t} - \text{target} - (t-s)(\partial_s + \text{direction} \cdot \nabla) v_{s,t}\big|^2"

ENTRIES = (
    Equivalence(
        "AYF-EMD, without normalisation and fully warmed up, is consistency distillation",
        f"Align Your Flow, {ARXIV('2506.14603')}",
        rf"\big|v_{{s,t}} - \mathrm{{sg}}\,(v_{{s,t}} - g)\big|^2,\quad g = v_{{s,t}} - b_s - (t-s) {TOTAL}",
        DISTILLED,
        align_your_flow,
    ),
    Equivalence(
        "AYF-EMD half-way through its warm-up is consistency distillation with its two settings",
        f"Align Your Flow, {ARXIV('2506.14603')}",
        r"\big|v_{s,t} - \mathrm{sg}\,(v_{s,t} - \tfrac{g_w}{|g_w| + c})\big|^2,\quad "
        rf"g_w = v_{{s,t}} - b_s - w (t-s) {TOTAL}",
        r"\texttt{consistency(student, batch, teacher, normalise=c, warmup=...)}",
        normalised,
    ),
    Equivalence(
        "BOOT and PID are AYF-LMD, which is LMD with all but v stopped, from pure noise",
        f"BOOT, {ARXIV('2306.05544')}",
        r"\tfrac{\mathrm d}{\mathrm d t} [t\, v_{0,t}] = b_t(x_0 + t\, v_{0,t}),\quad "
        r"\text{of which } v_{0,t} \text{ learns}",
        r"\big|v_{0,t} - \mathrm{sg}\,[v_{0,t} - (\partial_t X_{0,t} - b_t(X_{0,t}))]\big|^2",
        boot,
    ),
    Equivalence(
        "EMD's semigradient is consistency distillation and one term more",
        f"Flow Map Matching, {ARXIV('2406.07507')}",
        r"\big|\partial_s X_{s,t} + \mathrm{sg}\,(\nabla X_{s,t}\, b_s)\big|^2",
        DISTILLED,
        semigradient_of_emd,
        r"2\, \mathrm{sg}\,(r) \cdot (t-s)\, \partial_s v_{s,t}(I_s),\quad "
        r"r = \partial_s X_{s,t} + \nabla X_{s,t}\, b_s",
    ),
    Equivalence(
        "MeanFlow is consistency training in continuous time",
        f"MeanFlow, {ARXIV('2505.13447')}",
        r"\big|u - \mathrm{sg}\,(\dot I_s + (t-s)\, \tfrac{\mathrm d u}{\mathrm d s})\big|^2",
        MEANFLOW,
        mean_flow,
    ),
    Equivalence(
        "improved MeanFlow, written with its own velocity, is this library's",
        f"Improved MeanFlow, {ARXIV('2512.02012')}",
        r"\big|u + (s-t)\, \mathrm{sg}\,\mathrm{jvp}(u;\, u_{s,s}) - (x_1 - x_0)\big|^2",
        IMPROVED,
        improved_mean_flow,
    ),
    Equivalence(
        "MeanFlow is the Eulerian family with target dI, direction dI, all but v stopped",
        f"MeanFlow, {ARXIV('2505.13447')}",
        MEANFLOW,
        FAMILY,
        member(eulerian_family.DRAWN, eulerian_family.DRAWN, eulerian_family.ALL, meanflow),
    ),
    Equivalence(
        "improved MeanFlow is the Eulerian family with target dI, direction v_ss, all but v stopped",
        f"Improved MeanFlow, {ARXIV('2512.02012')}",
        IMPROVED,
        FAMILY,
        member(eulerian_family.DRAWN, eulerian_family.OWN, eulerian_family.ALL, imeanflow),
    ),
    Equivalence(
        "ESD is the Eulerian family with target and direction v_ss, and d/ds v free",
        f"Self-distillation, {ARXIV('2505.18825')}",
        r"\big|\partial_s X_{s,t} + \mathrm{sg}\,(\nabla X_{s,t}\, v_{s,s})\big|^2",
        FAMILY,
        member(eulerian_family.OWN, eulerian_family.OWN, eulerian_family.TRANSPORT, esd),
    ),
    Equivalence(
        "a shortcut model is PSD-M on a dyadic grid, with an averaged target",
        f"Shortcut models, {ARXIV('2410.12557')}",
        r"\big|v(x, s, d) - \mathrm{sg}\,\tfrac12[\bar v(x, s, \tfrac d2) "
        r"+ \bar v(x', s + \tfrac d2, \tfrac d2)]\big|^2",
        r"\big|v_{s,t} - \mathrm{sg}\,\tfrac12[\bar v_{s,u} + \bar v_{u,t}(\bar X_{s,u})]\big|^2,\quad "
        r"u = \tfrac{s+t}2",
        shortcut,
    ),
    Equivalence(
        "SplitMeanFlow is PSD-U",
        f"SplitMeanFlow, {ARXIV('2507.16884')}",
        r"(t-s)\, u_{s,t} = \mathrm{sg}\,[(r-s)\, u_{s,r} + (t-r)\, u_{r,t}]",
        r"\big|v_{s,t} - \mathrm{sg}\,[(1-g)\, v_{s,u} + g\, v_{u,t}(X_{s,u})]\big|^2,\quad u = gs + (1-g)t",
        split_mean_flow,
    ),
    Equivalence(
        "progressive distillation is PFMM with two jumps on a grid",
        f"Progressive distillation, {ARXIV('2202.00512')}",
        r"w\, \big|D - \tilde D\big|^2,\quad \tilde D\text{: one step lands where two half-steps do},\ "
        r"w = \big(\tfrac{t-s}{1-s}\big)^2",
        r"\big|X_{s,t}(I_s) - (Y_{u,t} \circ Y_{s,u})(I_s)\big|^2,\quad Y = \text{the teacher's Euler step}",
        progressive,
    ),
    Equivalence(
        "terminal velocity matching is LSD with an averaged target",
        f"TVM, {ARXIV('2511.19797')}",
        r"\big|\tfrac{\mathrm d}{\mathrm d t} f(x, s, t) - \mathrm{sg}\, \bar u(f(x, s, t), t, t)\big|^2",
        r"\big|\partial_t X_{s,t}(I_s) - \mathrm{sg}\, \bar v_{t,t}(X_{s,t}(I_s))\big|^2",
        terminal_velocity,
    ),
    Equivalence(
        "CTM's g and pixel MeanFlow's prediction of data are one parameterisation",
        f"CTM, {ARXIV('2310.02279')}, and pixel MeanFlow, {ARXIV('2601.22158')}",
        r"G(y, \sigma, \sigma') = \tfrac{\sigma'}{\sigma} y + (1 - \tfrac{\sigma'}{\sigma})\, g,\quad "
        r"y = \tfrac{x}{s},\ \sigma = \tfrac{1-s}{s},\ \sigma' = \tfrac{1-t}{t}",
        r"\tfrac1t X_{s,t}(x),\quad v_{s,t}(x) = \frac{g_{s,t}(x) - x}{1 - s}",
        trajectory,
    ),
    Equivalence(
        "contrastive flow matching rescales and shifts the velocity",
        f"Contrastive flow matching, {ARXIV('2506.05350')}",
        r"\arg\min_v \mathbb E |v - \dot I|^2 - \lambda\, \mathbb E |v - \dot I'|^2",
        r"(b_t - \lambda\, m)/(1 - \lambda),\quad m = \mathbb E[x_1 - x_0]",
        contrastive,
    ),
)
