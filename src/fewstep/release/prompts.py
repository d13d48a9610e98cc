"""Prompts that people give: what can be read as texts, how many images they are for, and what a text encoder makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..flows.conditioning import Conditions
from ..networks.clip import Clip
from ..networks.tokens import Tokenizer
from .tokenizer import TextTokenizer

if TYPE_CHECKING:
    from transformers import CLIPTextModel

    from .network import FlowMapModel


class CutWarning(UserWarning):
    """Prompts were longer than what a student reads."""


def check_components(
    flow_map: FlowMapModel, encoder: CLIPTextModel | None, tokenizer: TextTokenizer | None
) -> None:
    """Raise ValueError unless a network that is told texts, and no other, comes with a text encoder and a tokenizer that fit it."""
    if not flow_map.conditional:
        if encoder is not None or tokenizer is not None:
            raise ValueError(
                "this student's network is told no texts: leave `text_encoder` and `tokenizer` out"
            )
        return
    if encoder is None or tokenizer is None:
        raise ValueError(
            "this student's network is told texts: give it the `text_encoder` and the `tokenizer` that it was trained with"
        )
    if not isinstance(tokenizer, TextTokenizer):
        raise ValueError(
            f"the `tokenizer` of a student is a {TextTokenizer.__name__} and no {type(tokenizer).__name__}: make one of the files of that one"
        )
    texts, own, width = tokenizer.texts, encoder.config, flow_map.config.settings["width"]
    if (len(texts.vocabulary), texts.length) != (own.vocab_size, own.max_position_embeddings):
        raise ValueError(
            f"the tokenizer makes texts of {texts.length} tokens of {len(texts.vocabulary)}, and the text encoder reads {own.max_position_embeddings} of "
            f"{own.vocab_size}: take both from one student"
        )
    if width != own.hidden_size:
        raise ValueError(
            f"the text encoder's tokens are {own.hidden_size} wide, and the network reads some that are {width} wide: take both from one student"
        )


def checked(prompt: str | Sequence[str] | None, told: bool) -> list[str] | None:
    """The texts of a prompt, or None for a student that is not `told` any; raises ValueError, in one sentence, for what is no text."""
    if not told:
        if prompt is not None:
            raise ValueError("this student was trained without text: leave `prompt` out")
        return None
    if prompt is None:
        raise ValueError(
            'this student draws what a text says: give `prompt`, a text or a list of texts; "" is the empty one'
        )
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, (list, tuple)):
        raise ValueError(f"`prompt` is a text or a list of texts, not {type(prompt).__name__}")
    if not texts:
        raise ValueError("`prompt` is an empty list: give one text at least")
    odd = next((k for k, text in enumerate(texts) if not isinstance(text, str)), None)
    if odd is not None:
        raise ValueError(
            f"`prompt` holds {texts[odd]!r:.40} at place {odd + 1} of {len(texts)}, which is no text: give a string in its place"
        )
    return list(texts)


def guidance(scale: float | None, told: bool, usual: float) -> float:
    """The scale of guidance, `usual` where none is given; raises ValueError for what is no scale, and for one that needs texts."""
    found = usual if scale is None else scale
    if isinstance(found, bool) or not isinstance(found, Real) or not isfinite(found) or found < 0:
        raise ValueError(f"`guidance_scale` is a number from 0 on, not {found!r}: 1 is none")
    if found != 1 and not told:
        raise ValueError(
            f"this student was trained without text, and guidance compares texts: leave `guidance_scale` at 1, not {found:g}"
        )
    return float(found)


def images(texts: list[str] | None, batch_size: int | None, noise: Tensor | None) -> int | None:
    """How many images these texts are for, None where they leave it open; raises ValueError where that is not as many as there shall be."""
    if texts is None or len(texts) == 1:
        return batch_size
    wanted = batch_size if noise is None else len(noise)
    if wanted not in (None, len(texts)):
        raise ValueError(
            f"{len(texts)} prompts do not go with {wanted} images: give one prompt for all of them, or one an image"
        )
    return len(texts) if batch_size is None else batch_size


def warn_of_cuts(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Say in one warning how much of the texts the context is too short for."""
    lost = [count for count in tokenizer.dropped(texts) if count]
    if lost:
        which = (
            "the prompt is"
            if len(texts) == 1
            else f"{len(lost)} of {len(texts)} prompts {'is' if len(lost) == 1 else 'are'}"
        )
        where = "its end" if len(lost) == 1 else "their ends"
        said = f"{which} longer than the {tokenizer.length} tokens that this student reads: {sum(lost)} tokens at {where} were lost"
        # whoever called the pipeline, whose call torch wraps once
        warnings.warn(said, CutWarning, stacklevel=4)


def read(
    encoder: CLIPTextModel, tokenizer: Tokenizer, texts: list[str], count: int
) -> tuple[Conditions, Conditions]:
    """What `count` images of one text, or of a text each, are told, and the empty text; the bits that the project's own samples are told."""
    both = Clip(encoder, tokenizer).text([*texts, ""])
    own, empty = both.part(0, len(texts)), both.part(len(texts), len(texts) + 1)
    return own.times(count) if len(own) == 1 else own, empty


def from_file(path: Path) -> list[str]:
    """One prompt a line of a UTF-8 file; raises ValueError, naming file and line, for a blank line or one that is not UTF-8."""
    if not path.is_file():
        raise ValueError(f"{path} is not there, or is no file: give a text file with one prompt a line")
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    # what ends with an end of line has no further one behind it
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path} is empty: give one prompt a line")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError:
            raise ValueError(
                f"line {number} of {path} is not UTF-8: store the file as UTF-8, one prompt a line"
            ) from None
        if not text.strip():
            raise ValueError(f"line {number} of {path} is blank: take it out, since every line is a prompt")
        found.append(text)
    return found
