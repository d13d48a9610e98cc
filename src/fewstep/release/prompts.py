"""Prompts: which can be read, how many images they are for, and what a text encoder makes of them."""

import json
import warnings
from collections.abc import Sequence

from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..networks.tokens import Tokenizer

WITHOUT = "this student was trained without text"


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
    if (count, length, width) != (own.vocab_size, own.max_position_embeddings, own.hidden_size):
        made = f"the tokenizer makes texts of {length} tokens of {count}"
        read = f"the text encoder reads {own.max_position_embeddings} of {own.vocab_size}"
        wide = f"its states are {own.hidden_size} wide, and the network reads {width}"
        raise ValueError(f"{made}, {read}, {wide}: take all from one student")


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
    if not isinstance(texts, (list, tuple)) or not texts:
        raise ValueError(f"`prompt` is a text or a list of texts, not {prompt!r:.40}")
    if odd := [place for place, text in enumerate(texts, 1) if not isinstance(text, str)]:
        found = f"{texts[odd[0] - 1]!r:.40} at place {odd[0]} of {len(texts)}"
        raise ValueError(f"`prompt` holds {found}, which is no text: give a string there")
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
    if cuts := [count for count in tokenizer.dropped(texts) if count]:
        long = f"{len(cuts)} of {len(texts)} prompts longer than the {tokenizer.length} tokens"
        lost = f"{sum(cuts):,} tokens at the end were lost"
        # the level is that of whoever called the pipeline, whose call torch wraps once
        warnings.warn(f"{long} that this student reads: {lost}", CutWarning, stacklevel=4)
