"""What a notebook shows of self-corrected distillation before it trains: the losses that take part, and their settings."""

from __future__ import annotations

import inspect

import pandas as pd
from IPython.display import HTML

from ..objectives.scflow import losses
from ..settings.self_correction import AdversarialLoss, SelfCorrection

_FUNCTIONS = {
    "consistency": losses.truncated_consistency, "adversarial": losses.adversarial, "reflow": losses.reflow,
    "bidirectional": losses.bidirectional_consistency,
}  # fmt: skip


def part_of(settings: SelfCorrection) -> list[str]:
    """The names of the student's losses that take part."""
    return [name for name in _FUNCTIONS if name == "consistency" or getattr(settings, name)]


def equations(settings: SelfCorrection) -> str:
    """The source of the losses that take part, as Markdown."""
    shown = [_FUNCTIONS[name] for name in part_of(settings)] + (
        [losses.discriminator] if settings.adversarial else []
    )
    source = "\n\n".join(inspect.getsource(function) for function in (losses.moves, *shown))
    return f"`fewstep/objectives/scflow/losses.py`\n\n```python\n{source}```"


def _discriminator(own: AdversarialLoss) -> str:
    network = f"widths {own.channels}" if own.channels else f"a head {own.head} wide"
    falling = " that falls as the student's" if own.schedule == "student" else ""
    return f"R1 gamma = {own.r1:g}, D's rate {own.lr:g}{falling}, momentum {own.beta1:g}, {network}"


def settings_table(settings: SelfCorrection) -> HTML:
    """One row a loss: its weight and its settings, for a notebook to show; whole, where pandas would cut them after fifty letters."""
    rows = {
        "consistency": {
            "weight": 1.0,
            "from step": 0,
            "settings": f"delta = {settings.threshold:g}, t_trunc = {settings.truncation:g}, target keeps {settings.target_ema:g}",
        }
    }
    for name in part_of(settings)[1:]:
        own = getattr(settings, name)
        further = _discriminator(own) if name == "adversarial" else ""
        rows[name] = {"weight": own.weight, "from step": own.warmup, "settings": further}
    with pd.option_context("display.max_colwidth", None):
        return HTML(pd.DataFrame(rows).T.rename_axis("loss").to_html())
