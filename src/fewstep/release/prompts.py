"""Prompts: which can be read, how many images they are for, and what a text encoder makes of them."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..flows.conditioning import Conditions
from ..networks.clip import Clip
from ..networks.published.repository import amiss
from ..networks.tokens import Tokenizer

WITHOUT = "this student was trained without text"
SAID = 3  # prompts that a sentence speaks of one by one
LARGEST = 2**24  # bytes of a file of prompts


class CutWarning(UserWarning):
    """Prompts were longer than what a student reads."""


def component(tokenizer: Tokenizer) -> CLIPTokenizer:
    """A tokenizer as transformers stores it; other programs read the same tokens with it."""
    own, merges = {"vocab": tokenizer.vocabulary, "pad_token": tokenizer.filling}, list(tokenizer.merges)
    # "<|endoftext|>" in a prompt is a word, and not its end
    return CLIPTokenizer(**own, merges=merges, split_special_tokens=True, model_max_length=tokenizer.length)


def trained_with(tokenizer: CLIPTokenizer) -> Tokenizer:
    """The tokenizer that `component` was made of; transformers' own fails at half of a surrogate pair."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = tuple((first, second) for first, second in model["merges"])
    return Tokenizer(model["vocab"], merges, tokenizer.model_max_length, tokenizer.pad_token)


def check_components(
    width: int | None, encoder: CLIPTextModel | None, tokenizer: CLIPTokenizer | None
) -> None:
    """Raise ValueError unless both fit a network that reads token states of `width`, None without text."""
    if width is None:
        if encoder is not None or tokenizer is not None:
            raise ValueError(f"{WITHOUT}: leave `text_encoder` and `tokenizer` out")
        return
    if encoder is None or tokenizer is None:
        cure = "give it the `text_encoder` and the `tokenizer` that it was trained with"
        raise ValueError(f"this student is conditioned on captions: {cure}")
    if not isinstance(tokenizer, CLIPTokenizer):
        raise ValueError(f"the `tokenizer` of a student is a CLIPTokenizer, not a {type(tokenizer).__name__}")
    own, length, count = encoder.config, tokenizer.model_max_length, len(tokenizer)
    if (count, length) != (own.vocab_size, own.max_position_embeddings):
        read = f"the text encoder reads {own.max_position_embeddings} of {own.vocab_size}"
        made = f"the tokenizer makes texts of {length} tokens of {count}"
        raise ValueError(f"{made}, and {read}: take both from one student")
    if width != own.hidden_size:
        read = f"{own.hidden_size} wide, and the network reads some that are {width} wide"
        raise ValueError(f"the text encoder's tokens are {read}: take both from one student")


def checked(prompt: str | Sequence[str] | None, conditional: bool) -> list[str] | None:
    """The texts of a prompt, None for a student without text; raises ValueError for what is no text."""
    if not conditional:
        if prompt is not None:
            raise ValueError(f"{WITHOUT}: leave `prompt` out")
        return None
    if prompt is None:
        cure = 'give `prompt`, a text or a list of texts; "" is the empty one'
        raise ValueError(f"this student draws what a text says: {cure}")
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, (list, tuple)):
        raise ValueError(f"`prompt` is a text or a list of texts, not {type(prompt).__name__}")
    if not texts:
        raise ValueError("`prompt` is an empty list: give one text at least")
    for place, text in enumerate(texts, 1):
        if not isinstance(text, str):
            where = f"at place {place} of {len(texts)}"
            raise ValueError(f"`prompt` holds {text!r:.40} {where}, which is no text: give a string there")
    return list(texts)


def images(texts: list[str] | None, batch_size: int | None, noise: Tensor | None) -> int | None:
    """How many images the texts are for, None where they leave it open; raises ValueError for others."""
    if texts is None or len(texts) == 1:
        return batch_size
    wanted = batch_size if noise is None else len(noise)
    if wanted not in (None, len(texts)):
        cure = "give one prompt for all of them, or one an image"
        raise ValueError(f"{len(texts)} prompts do not go with {wanted} images: {cure}")
    return len(texts) if batch_size is None else batch_size


def warn_of_cuts(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Say in one warning how much of the texts the context is too short for."""
    cuts = {number: cut for number, cut in enumerate(tokenizer.cuts(texts), 1) if cut}
    if cuts:
        one, total = len(texts) == 1, sum(count for count, _ in cuts.values())
        which = "the prompt is" if one else f"{len(cuts)} of {len(texts)} prompts are"
        long = f"{which} longer than the {tokenizer.length} tokens that this student reads"
        said = []
        for k, (_, word) in [*cuts.items()][:SAID]:
            own = [*texts[k - 1].split(), ""][word - 1]
            said.append(f"word {word:,} ({own:.30})" + ("" if one else f" of prompt {k}"))
        said += ["..."] if len(cuts) > SAID else []
        lost = f"{total:,} tokens at the end were lost, from {', '.join(said)} on"
        # the level is that of whoever called the pipeline, whose call torch wraps once
        warnings.warn(f"{long}: {lost}", CutWarning, stacklevel=4)


def read(clip: Clip, texts: list[str], count: int) -> tuple[Conditions, Conditions]:
    """What `count` images of one text, or of a text each, are conditioned on, and the empty text."""
    both = clip.text([*texts, ""])
    own, empty = both.part(0, len(texts)), both.part(len(texts), len(texts) + 1)
    return own.times(count) if len(own) == 1 else own, empty


def from_file(path: Path) -> list[str]:
    """One prompt a line of a UTF-8 file; raises ValueError, naming the line, for a blank or garbled one."""
    if not path.is_file():
        raise ValueError(f"{path} {amiss(path)}: give a text file with one prompt a line")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than the {LARGEST:,} bytes of a file of prompts: give fewer")
    content, found = path.read_bytes().removeprefix(b"\xef\xbb\xbf"), []
    if not content:
        raise ValueError(f"{path} is empty: give one prompt a line")
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError:
            cure = "store the file as UTF-8, one prompt a line"
            raise ValueError(f"line {number} of {path} is not UTF-8: {cure}") from None
        if not text.strip():
            raise ValueError(f"line {number} of {path} is blank: take it out, since every line is a prompt")
        found.append(text)
    return found
