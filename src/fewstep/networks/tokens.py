"""Texts as tokens: a byte-level BPE in CLIP's own format, trained on captions or read from a folder.

Any string has tokens: what is not in the merges is spelled out byte by byte. Case and the amount of white
space are lost, as in CLIP; a text cannot hold the two special tokens.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from ..storage.files import amiss, mapping, write_atomically

VOCABULARY, MERGES = "vocab.json", "merges.txt"
CONFIG = "tokenizer_config.json"  # names a published tokenizer's filling, if at all
START, END = "<|startoftext|>", "<|endoftext|>"
# the mark of a token that ends a word, and the first line of merges.txt
WORD_END, HEADER = "</w>", "#version: 0.2"
OFTEN = 2  # a pair of neighbours seen less often is no merge


class TokenizerError(RuntimeError):
    """A tokenizer's file is missing, damaged or not what it should be; the message names it and the cure."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A vocabulary and its merges; texts are cut, or filled up with `filling`, to `length` tokens."""

    vocabulary: dict[str, int]  # the index of each token, 0, 1, ...
    merges: tuple[tuple[str, str], ...]  # the pairs of tokens that become one, the first ones first
    length: int
    filling: str = END

    @cached_property
    def own(self) -> CLIPTokenizer:
        """transformers' tokenizer of these merges, which neither cuts nor fills."""
        settings = {"pad_token": self.filling, "split_special_tokens": True}
        return CLIPTokenizer(vocab=self.vocabulary, merges=list(self.merges), **settings)

    @property
    def end(self) -> int:
        """The token that ends every text."""
        return self.vocabulary[END]

    @property
    def checksum(self) -> str:
        """The SHA-256 of what decides the tokens of a text."""
        deciding = [sorted(self.vocabulary.items()), self.merges, self.length, self.filling]
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()

    def _whole(self, texts: Sequence[str]) -> list[list[int]]:
        """All tokens of each text, however many, start and end included."""
        if isinstance(texts, str):
            raise TypeError(f"give a list of texts, not the one text {texts[:40]!r}")
        # half of a surrogate pair is no character: it has no bytes
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        return self.own(clean, verbose=False)["input_ids"] if clean else []

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The tokens of each text, (count, length), int64, and which are its own and not filling, bool.

        A text that is too long loses its last tokens but keeps its end: `dropped` says how many.
        """
        most, filling = self.length, self.vocabulary[self.filling]
        kept = [row if len(row) <= most else [*row[: most - 1], self.end] for row in self._whole(texts)]
        filled = torch.tensor([row + [filling] * (most - len(row)) for row in kept], dtype=torch.int64)
        own = torch.tensor([len(row) for row in kept], dtype=torch.int64)
        return filled.view(-1, most), torch.arange(most) < own[:, None]

    def dropped(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text `encode` leaves out: 0 for one that fits."""
        return [max(len(tokens) - self.length, 0) for tokens in self._whole(texts)]


def _alphabet() -> list[str]:
    """All bytes as their characters, inside a word and at its end: 512 tokens."""
    inside = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*inside, *(byte + WORD_END for byte in inside)]


def train(texts: Sequence[str], vocabulary: int, length: int) -> Tokenizer:
    """The tokenizer of `texts`, in any order, with `vocabulary` tokens (514 at least), or all there are."""
    units = _alphabet()
    start = CLIPTokenizer(vocab={token: k for k, token in enumerate([*units, START, END])}, merges=[])
    backend = start.backend_tokenizer
    # The trainer numbers what it meets by a hash table, another in every process, and breaks ties by these
    # numbers: it is given all there is to meet beforehand.
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2, min_frequency=OFTEN, special_tokens=units, initial_alphabet=[],
        end_of_word_suffix=WORD_END, show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator([text.encode("utf-8", "replace").decode() for text in texts], trainer)
    model = json.loads(backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    numbers = {token: k for k, token in enumerate([*tokens, START, END])}
    return Tokenizer(numbers, tuple(tuple(pair) for pair in model["merges"]), length)


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Write vocab.json and merges.txt to `folder`, each atomically."""
    vocabulary = json.dumps(tokenizer.vocabulary, ensure_ascii=False)
    lines = [HEADER, *(f"{first} {second}" for first, second in tokenizer.merges)]
    write_atomically(folder / VOCABULARY, f"{vocabulary}\n".encode())
    write_atomically(folder / MERGES, ("\n".join(lines) + "\n").encode())


def _fit(vocabulary: dict[str, int], merges: Sequence[tuple[str, ...]]) -> str | None:
    """Why these are no vocabulary and merges of CLIP's kind, in words; None where they are."""
    if sorted(map(str, vocabulary.values())) != sorted(map(str, range(len(vocabulary)))):
        return f"{VOCABULARY} does not number its tokens 0, 1, ..."
    made = {START, END, *_alphabet(), *map("".join, merges)}
    if odd := sorted(made ^ set(vocabulary)):
        return f"{odd[0]!r} is in one of {VOCABULARY} and {MERGES}, and not in the other"
    wrong = [pair for pair in merges if len(pair) != 2 or not {*pair} <= set(vocabulary)]
    return f"{MERGES} merges {' '.join(wrong[0])!r}, which are no two tokens" if wrong else None


def read(folder: Path, length: int, cure: str = "delete it and run `dvc repro` again") -> Tokenizer:
    """The tokenizer in `folder`, for `length` tokens; TokenizerError with the `cure` for a bad file."""
    vocabulary, path = mapping(folder / VOCABULARY, cure, TokenizerError), folder / MERGES
    if not path.is_file():
        raise TokenizerError(f"{path} {amiss(path)}: {cure}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is damaged ({error}): {cure}") from None
    merges = tuple(tuple(line.split(" ")) for line in lines if line and not line.startswith("#version"))
    if problem := _fit(vocabulary, merges):
        raise TokenizerError(f"{folder} holds no whole tokenizer of CLIP's kind ({problem}): {cure}")
    filling = END
    if (folder / CONFIG).is_file():  # a published tokenizer may fill texts up with a token of its own
        found = mapping(folder / CONFIG, cure, TokenizerError).get("pad_token") or END
        filling = found.get("content") if isinstance(found, dict) else found
        if filling not in vocabulary:
            found = f"{filling!r}, which is not in {VOCABULARY} beside it"
            raise TokenizerError(f"{folder / CONFIG} fills texts up with {found}: {cure}")
    return Tokenizer(vocabulary, merges, length, filling)
