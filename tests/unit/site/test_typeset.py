"""Markdown, code and formulas as HTML, and the page of the objectives that is made of them."""

from __future__ import annotations

import re

import pytest

from fewstep import objectives
from fewstep.pipeline import typeset


def test_every_formula_of_an_objective_is_typeset(files):
    text = files["methods.html"].decode()
    for name in objectives.names():
        section = text[text.index(f'id="{name}"') :].partition("</section>")[0]
        (tex,) = re.findall(r"\$\$(.+?)\$\$", objectives.equation(name), re.DOTALL)
        assert typeset.formula(tex, block=True) in section
        assert f'<span class="nf">{name}</span>' in section and "How to read its curve" in section
    assert "$" not in re.sub(r"<pre.*?</pre>|aria-label=\"[^\"]*\"", "", text, flags=re.DOTALL)
    # what LaTeX the converter does not know, it would show as it stands
    shown = re.sub(r"<pre.*?</pre>|<[^>]+>", "", text, flags=re.DOTALL)
    assert "\\" not in shown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("`$x$` costs $1$", "<code>$x$</code> costs <math "),
        ("$a$ and $b$", ' and <math aria-label="b"'),
        ("| a |\n|---|\n| $|x|$ |", '<div class="scroll" tabindex="0"><table>'),
        ("[t](../tests/t.py) [w](https://arxiv.org/abs/1) [n](5-figures.ipynb)",
         '<p>t <a href="https://arxiv.org/abs/1">w</a> <a href="5-figures.html">n</a></p>'),
        ("<script>alert(1)</script>", "&lt;script&gt;"),
    ],
)  # fmt: skip
def test_markdown_of_formulas_code_and_links(text, html):
    assert html in typeset.markdown(text)


def test_formulas_are_drawn(opened):
    page = opened("methods.html")
    drawn = "[...document.querySelectorAll('math')].map((own) => own.getBoundingClientRect().width)"
    sizes = page.value(drawn)
    assert len(sizes) > 30 and min(sizes) > 3
    # MathML is laid out, and not read out: an index is smaller than its letter
    size = "parseFloat(getComputedStyle(document.querySelector('msub').children[{}]).fontSize)"
    letter, index = (page.value(size.format(k)) for k in (0, 1))
    assert index < letter
    assert not page.value("document.querySelectorAll('merror').length")
