"""Markdown, formulas, code and executed notebooks as HTML that loads nothing and needs no script."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape

import mistune
from latex2mathml.converter import convert
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import BashLexer, PythonLexer

# formulas, and before them the code in which a dollar is a dollar
FORMULA = re.compile(r"```.*?```|`[^`\n]+`|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL)
# the font has larger bars than these, and nothing here needs them
SIZES = re.compile(r"\\[bB]ig[lrm]?(?![a-zA-Z])")
PLACE = "\x02{}\x03"
LEXERS = {"python": PythonLexer(), "bash": BashLexer()}


@cache
def formula(tex: str, block: bool = False) -> str:
    """LaTeX as MathML, with the LaTeX as its text for readers that show none."""
    found: str = convert(SIZES.sub("", " ".join(tex.split())), display="block" if block else "inline")
    return found.replace("<math ", f'<math aria-label="{escape(tex.strip())}" ', 1)


@cache
def code(text: str, language: str = "python") -> str:
    """Source code with a span for each kind of word."""
    lexer = LEXERS.get(language)
    own = escape(text) if lexer is None else highlight(text, lexer, HtmlFormatter(nowrap=True))
    return f'<pre class="code" tabindex="0"><code>{own.rstrip()}</code></pre>'


class _Renderer(mistune.HTMLRenderer):
    """Links lead to the web, to a notebook's page or nowhere: a file of the repository is named."""

    def __init__(self, level: int) -> None:
        super().__init__(escape=True)
        self.level = level

    def heading(self, text: str, level: int, **attributes: object) -> str:
        level = min(level + self.level, 6)
        return f"<h{level}>{text}</h{level}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if re.fullmatch(r"[\w.-]+\.ipynb", url):
            return f'<a href="{url.removesuffix("ipynb")}html">{text}</a>'
        return f'<a href="{escape(url)}">{text}</a>' if url.startswith("https://") else text

    def block_code(self, code_text: str, info: str | None = None) -> str:
        return code(code_text, (info or "").strip() or "text")


@cache
def _parser(level: int) -> Callable[[str], str]:
    return mistune.create_markdown(renderer=_Renderer(level), plugins=["table", "strikethrough"])


def markdown(text: str, level: int = 0) -> str:
    """Markdown with formulas as HTML; headings `level` deeper than they say."""
    formulas: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        tex = match["block"] or match["inline"]
        if tex is None:
            return match[0]
        formulas.append(formula(tex, block=match["block"] is not None))
        return PLACE.format(len(formulas) - 1)

    html = _parser(level)(FORMULA.sub(put_aside, text))
    html = re.sub("\x02(\\d+)\x03", lambda match: formulas[int(match[1])], html)
    return html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _output(output: Mapping, picture: Callable[[bytes], str]) -> str:
    data = {
        kind: own if isinstance(own, dict) else _joined(own) for kind, own in output.get("data", {}).items()
    }
    said = data.get("text/plain", _joined(output.get("text", output.get("traceback", ""))))
    if "image/png" in data:
        alt = escape(said.removeprefix("Picture: "))
        return f'<figure><img src="{picture(base64.b64decode(data["image/png"]))}" alt="{alt}"></figure>'
    if "text/markdown" in data:
        return markdown(data["text/markdown"], level=1)
    if "text/html" in data:
        # a table of evaluation.display
        return f'<div class="scroll" tabindex="0">{data["text/html"]}</div>'
    return f'<pre tabindex="0">{escape(said.rstrip())}</pre>' if said.strip() else ""


def notebook(content: bytes, picture: Callable[[bytes], str]) -> tuple[str, str]:
    """An executed notebook as (title, HTML): code folded, `picture` says where a picture of it lies."""
    parts, title = [], ""
    for cell in json.loads(content).get("cells", []):
        source = _joined(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            heading = re.match(r"# (.+)\n?", source)
            if heading and not title:
                title, source = heading[1], source[heading.end() :]
            parts.append(markdown(source))
        elif source and "parameters" not in cell["metadata"].get("tags", []):
            # what stands in their place when the notebook runs comes next
            source = source.removeprefix("# Parameters\n")
            lines = [line.strip() for line in source.splitlines() if line.strip()]
            first = next((line for line in lines if not line.startswith(("from ", "import "))), lines[0])
            said = f"<summary>Code <code>{escape(first)}</code></summary>"
            parts.append(f'<details class="source">{said}{code(source)}</details>')
            parts += [_output(output, picture) for output in cell["outputs"]]
    return title, "\n".join(parts)
