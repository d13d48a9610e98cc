"""The tokenizer of a student that is told texts, as a component of a pipeline: vocab.json and merges.txt in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

# by the second name diffusers finds how a tokenizer of this module is loaded
from transformers import CLIPTokenizer  # isort: skip

from ..networks import tokens
from ..networks.tokens import Tokenizer, TokenizerError
from ..storage.files import write_atomically

CURE = "copy the folder whole, or save the student again"
LENGTH = "model_max_length"
# the settings without which transformers' own class reads other tokens out of the same two files
SETTINGS = {
    "tokenizer_class": "CLIPTokenizer",
    "bos_token": tokens.START,
    "eos_token": tokens.END,
    "unk_token": tokens.END,
    "split_special_tokens": True,
}


def _length(path: Path) -> int:
    """The number of tokens that texts are cut to, as `path` says."""
    if not path.is_file():
        raise TokenizerError(f"{path} is not there: {CURE}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[LENGTH]
    except (ValueError, KeyError, TypeError) as error:
        raise TokenizerError(
            f"{path} does not say `{LENGTH}`, the tokens that a text is cut to ({type(error).__name__}): {CURE}"
        ) from None
    if not isinstance(found, int) or found < 3:
        raise TokenizerError(
            f"{path} cuts texts to {found!r} tokens, and it must be a whole number from 3 on: {CURE}"
        )
    return found


class TextTokenizer(CLIPTokenizer):
    """transformers' CLIPTokenizer that is stored as its vocabulary and merges; `texts` gives the tokens that a student was trained with.

    A class of its own, since transformers' does not warrant the same tokens: it stores one tokenizer.json, and reads that in
    the place of the two files wherever it finds one; whether "<|endoftext|>" in a prompt is a word or the end of it hangs on
    a setting beside them; and it fails on half of a surrogate pair. Other programs read what is written here as a CLIPTokenizer.
    """

    def __init__(self, texts: Tokenizer):
        super().__init__(
            vocab=texts.vocabulary, merges=list(texts.merges), pad_token=texts.filling, split_special_tokens=True, model_max_length=texts.length
        )  # fmt: skip
        self.texts = texts

    def save_pretrained(self, save_directory: str | Path) -> tuple[str, ...]:
        """Write vocab.json, merges.txt and tokenizer_config.json to a folder, each atomically; returns their paths."""
        folder = Path(save_directory)
        tokens.write(self.texts, folder)
        settings = SETTINGS | {"pad_token": self.texts.filling, LENGTH: self.texts.length}
        write_atomically(
            folder / tokens.CONFIG, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()
        )
        return tuple(str(folder / name) for name in (*self.texts.files, tokens.CONFIG))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path) -> TextTokenizer:
        """The tokenizer that `save_pretrained` wrote to a folder; raises TokenizerError, naming the file, where one is missing or damaged."""
        folder = Path(pretrained_model_name_or_path)
        return cls(tokens.read(folder, _length(folder / tokens.CONFIG), CURE))
