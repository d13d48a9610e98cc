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

from ..storage.files import write_atomically
from .published.repository import amiss, mapping

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
    """A vocabulary and its merges; texts are cut, or filled up with `filling`, to `length` tokens.

    vocabulary  the index of each token, 0, 1, ...
    merges      the pairs of tokens that become one, the first ones first
    """

    vocabulary: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    length: int
    filling: str = END

    def __post_init__(self) -> None:
        if self.length < 3:
            wanted = "its start, its end and one more make 3 at least"
            raise ValueError(f"a context of {self.length} tokens holds no text: {wanted}")

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
    def files(self) -> dict[str, bytes]:
        """The content of its two files, by name."""
        lines = [HEADER, *(f"{first} {second}" for first, second in self.merges)]
        vocabulary, merges = json.dumps(self.vocabulary, ensure_ascii=False), "\n".join(lines)
        return {VOCABULARY: f"{vocabulary}\n".encode(), MERGES: f"{merges}\n".encode()}

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
        whole = self._whole(texts)
        kept = [row if len(row) <= most else [*row[: most - 1], self.end] for row in whole]
        filled = torch.tensor([row + [filling] * (most - len(row)) for row in kept], dtype=torch.int64)
        own = torch.tensor([len(row) for row in kept], dtype=torch.int64)
        return filled.view(-1, most), torch.arange(most) < own[:, None]

    def cuts(self, texts: Sequence[str]) -> list[tuple[int, int] | None]:
        """Of each text that `encode` cuts how many tokens are lost, and from which word on (1, 2, ...)."""
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        found: list[tuple[int, int] | None] = []
        for text, row in zip(clean, self.own(clean, return_offsets_mapping=True)["offset_mapping"]):
            lost = len(row) - self.length
            found.append((lost, len(text[: row[-lost - 1][1]].split()) or 1) if lost > 0 else None)
        return found

    def dropped(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text `encode` leaves out: 0 for one that fits."""
        return [max(len(tokens) - self.length, 0) for tokens in self._whole(texts)]

    def decode(self, ids: Tensor) -> list[str]:
        """The texts of tokens (count, any), in lower case, up to the end of each."""
        rows = [row[: row.index(self.end)] if self.end in row else row for row in ids.tolist()]
        return [self.own.decode(row, skip_special_tokens=True) for row in rows]


def _alphabet() -> list[str]:
    """All bytes as their characters, inside a word and at its end: 512 tokens."""
    inside = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*inside, *(byte + WORD_END for byte in inside)]


def train(texts: Sequence[str], vocabulary: int, length: int) -> Tokenizer:
    """The tokenizer of `texts` with `vocabulary` tokens, or fewer where no pair is left that comes twice.

    The texts alone decide, not their order. Raises ValueError for a vocabulary too small for all bytes.
    """
    units = _alphabet()
    if vocabulary < len(units) + 2:
        wanted = f"give {len(units) + 2} at least"
        raise ValueError(f"a vocabulary of {vocabulary} tokens does not hold all bytes: {wanted}")
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
    for name, content in tokenizer.files.items():
        write_atomically(folder / name, content)


def _vocabulary(path: Path, cure: str) -> dict[str, int]:
    found = mapping(path, cure, TokenizerError)
    if sorted(map(str, found.values())) != sorted(map(str, range(len(found)))):
        raise TokenizerError(f"{path} is no vocabulary, which numbers its tokens 0, 1, ...: {cure}")
    for token in (START, END, *_alphabet()):
        if token not in found:
            raise TokenizerError(f"{path} is no vocabulary of CLIP: it lacks the token {token!r}; {cure}")
    return found


def _merges(path: Path, vocabulary: dict[str, int], cure: str) -> tuple[tuple[str, str], ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is damaged ({error}): {cure}") from None
    if not lines[0].startswith("#version"):
        raise TokenizerError(f"{path} is damaged (its first line gives no version): {cure}")
    pairs = tuple(tuple(line.split(" ")) for line in lines[1:] if line)
    for number, pair in enumerate(pairs, 2):
        if len(pair) != 2 or any(token not in vocabulary for token in (*pair, "".join(pair))):
            found = f"merges no tokens of {VOCABULARY} beside it"
            raise TokenizerError(f"line {number} of {path} {found}: {cure}")
    if unmade := set(vocabulary) - {START, END, *_alphabet(), *map("".join, pairs)}:
        missing = f"no line of it makes the token {min(unmade)!r} of {VOCABULARY} beside it"
        raise TokenizerError(f"{path} is not whole: {missing}; {cure}")
    return pairs


def _filling(path: Path, vocabulary: dict[str, int], cure: str) -> str:
    """The token that fills texts up: a published one may have its own."""
    if not path.is_file():
        return END
    found = mapping(path, cure, TokenizerError).get("pad_token") or END
    token = found.get("content") if isinstance(found, dict) else found
    if token not in vocabulary:
        found = f"{token!r}, which is not in {VOCABULARY} beside it"
        raise TokenizerError(f"{path} fills texts up with {found}: {cure}")
    return token


def read(folder: Path, length: int, cure: str = "delete it and run `dvc repro` again") -> Tokenizer:
    """The tokenizer in `folder`, for texts of `length` tokens.

    Raises TokenizerError, naming the file and the `cure`, where it is missing or damaged.
    """
    for name in (VOCABULARY, MERGES):
        if not (folder / name).is_file():
            raise TokenizerError(f"{folder / name} {amiss(folder / name)}: {cure}")
    vocabulary = _vocabulary(folder / VOCABULARY, cure)
    merges = _merges(folder / MERGES, vocabulary, cure)
    return Tokenizer(vocabulary, merges, length, _filling(folder / CONFIG, vocabulary, cure))
