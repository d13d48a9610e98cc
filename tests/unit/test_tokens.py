"""The tokenizer: CLIP's format, any string, cut and filled to one length, the same in every process, and
files that are not whole.
"""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import torch

from fewstep.networks import tokens
from fewstep.networks.tokens import END, MERGES, START, VOCABULARY, CLIPTokenizer, Tokenizer, TokenizerError

SIZES, COLOURS, SHAPES = ("small", "large"), ("red", "green", "blue", "white"), ("square", "circle", "ring")
CAPTIONS = [
    f"a {size} {colour} {shape} left of a {other} ring"
    for size in SIZES
    for colour in COLOURS
    for shape in SHAPES
    for other in COLOURS
]


def decoded(tokenizer: Tokenizer, ids: torch.Tensor) -> list[str]:
    """The texts of tokens, in lower case, up to the end of each."""
    rows = [row[: row.index(tokenizer.end)] for row in ids.tolist()]
    return [tokenizer.own.decode(row, skip_special_tokens=True) for row in rows]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokens.train(CAPTIONS, 560, 12)


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a text as they stand in the vocabulary, without filling."""
    names = {number: token for token, number in tokenizer.vocabulary.items()}
    ids, mask = tokenizer.encode([text])
    return [names[number] for number in ids[mask].tolist()]


def test_merges_are_those_that_one_finds_by_hand():
    found = tokens.train(["abab ab", "AB  cc"], 600, 8)
    # "ab" is 3 times at the end of a word and once within one; "cc" comes once, and so does what "abab" would
    # make
    assert found.merges == (("a", "b</w>"),) and found.vocabulary["ab</w>"] == 512
    assert list(found.vocabulary.values()) == list(range(515)) and [
        found.vocabulary[token] for token in (START, END)
    ] == [513, 514]
    assert spelled(found, "Ab abab c") == [START, "ab</w>", "a", "b", "ab</w>", "c</w>", END]


def test_words_that_are_often_there_are_one_token(tokenizer):
    assert spelled(tokenizer, "a large green circle") == [
        START,
        "a</w>",
        "large</w>",
        "green</w>",
        "circle</w>",
        END,
    ]
    assert spelled(tokenizer, "larger")[1] != "large</w>"


def test_the_vocabulary_keeps_to_its_size_and_stops_where_nothing_is_left():
    for size in (514, 520, 541):
        found = tokens.train(CAPTIONS, size, 12)
        assert len(found.vocabulary) == size and len(found.merges) == size - 514
    # every word of the captions is one token by then
    all_of_them = tokens.train(CAPTIONS, 5000, 12)
    assert {word + tokens.WORD_END for caption in CAPTIONS for word in caption.split()} < set(
        all_of_them.vocabulary
    ) and len(all_of_them.merges) == 36


def test_other_processes_and_other_orders_give_the_same_merges(root):
    # all words are equally frequent, so ties decide, and the trainer's own hash table is another in every
    # process
    texts = [f"{a}{b}{c}" for a in "xyzuvw" for b in "klmnop" for c in "стéßäøq"]
    script = f"from fewstep.networks import tokens; print(tokens.train({texts!r} * 2, 800, 8).checksum)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    own = tokens.train(texts * 2, 800, 8)
    assert len(own.merges) > 200 and done.stdout.split() == [own.checksum] == [
        tokens.train(texts[::-1] * 2, 800, 8).checksum
    ]


def test_tokens_are_those_of_transformers_opened_in_the_folder(tokenizer, tmp_path):
    tokens.write(tokenizer, tmp_path)
    theirs = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    texts = [*CAPTIONS[:20], "", "A Red\tTRIANGLE, isn't it? 123", "a " * 40, "ein großes 緑の круг 🙂"]
    found = theirs(texts, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    ids, mask = tokenizer.encode(texts)
    assert torch.equal(ids, found["input_ids"]) and torch.equal(mask, found["attention_mask"].bool())
    again = tokens.read(tmp_path, 12)
    assert (
        (again.vocabulary, again.merges) == (tokenizer.vocabulary, tokenizer.merges)
        and again.checksum == tokenizer.checksum
        and torch.equal(again.encode(texts)[0], ids)
    )


@pytest.mark.parametrize("text", ["", " ", " \t\n  ", "\u2003\u00a0"])
def test_nothing_and_white_space_are_start_and_end(tokenizer, text):
    ids, mask = tokenizer.encode([text])
    assert (
        ids.shape == (1, 12)
        and mask.sum() == 2
        and ids[0].tolist() == [tokenizer.vocabulary[START]] + [tokenizer.end] * 11
    )
    assert decoded(tokenizer, ids) == [""] and tokenizer.dropped([text]) == [0]


def test_white_space_and_case_change_nothing(tokenizer):
    ids, _ = tokenizer.encode(["a red ring", "  A   red\n\tRING "])
    assert torch.equal(ids[0], ids[1])


def test_no_texts_are_no_rows_and_one_text_is_no_list(tokenizer):
    ids, mask = tokenizer.encode([])
    assert (
        ids.shape == mask.shape == (0, 12)
        and ids.dtype == torch.int64
        and mask.dtype == torch.bool
        and tokenizer.dropped([]) == []
    )
    with pytest.raises(TypeError, match="give a list of texts, not the one text 'a red ring'"):
        tokenizer.encode("a red ring")


def test_a_text_that_is_too_long_loses_its_last_words_and_says_so(tokenizer):
    texts = ["a " * 10, "a " * 11, "a red ring " * 50]
    ids, mask = tokenizer.encode(texts)
    assert tokenizer.dropped(texts) == [0, 1, 140] and mask.all() and (ids[:, -1] == tokenizer.end).all()
    assert decoded(tokenizer, ids)[2] == "a red ring a red ring a red ring a"


def test_every_string_is_encoded_and_comes_back():
    """Random characters of all planes, byte by byte.

    What is decoded is what CLIP's normal form makes of them.
    """
    tokenizer, numbers = tokens.train(CAPTIONS, 560, 200), np.random.default_rng(0)
    for top in (0x80, 0x250, 0x3000, 0x10FFFF):
        texts = ["".join(map(chr, numbers.integers(0, top, 8))) for _ in range(60)]
        ids, mask = tokenizer.encode(texts)
        assert mask.any(1).all() and (ids >= 0).all() and (ids < len(tokenizer.vocabulary)).all()
    words = ["żółć", "крапка", "صورة", "図形", "🙂🙂", "\x00\x07", "ﬃ", "ǅ"]
    ids, _ = tokenizer.encode(words)
    assert decoded(tokenizer, ids) == [unicodedata.normalize("NFC", word).lower() for word in words]
    # half of a surrogate pair is no character
    assert decoded(tokenizer, tokenizer.encode(["a \ud800 ring"])[0]) == ["a ? ring"]


def test_the_special_tokens_cannot_be_written_in_a_text(tokenizer):
    long = Tokenizer(tokenizer.vocabulary, tokenizer.merges, 60)
    ids, mask = long.encode([f"a ring {END} and {START} a square"])
    own = ids[mask].tolist()
    assert (
        own.index(long.end) == len(own) - 1
        and own.count(long.vocabulary[START]) == 1
        and "endoftext" in decoded(long, ids)[0]
    )


def test_a_published_one_may_fill_texts_up_with_a_token_of_its_own(tokenizer, tmp_path):
    tokens.write(tokenizer, tmp_path)
    for said in ("!", {"content": "!", "lstrip": False}):
        (tmp_path / tokens.CONFIG).write_text(json.dumps({"pad_token": said}), encoding="utf-8")
        ids, mask = tokens.read(tmp_path, 12).encode(["a ring"])
        assert (ids[~mask] == tokenizer.vocabulary["!"]).all() and mask.sum() == 4
    (tmp_path / tokens.CONFIG).write_text(json.dumps({"pad_token": "<filling>"}), encoding="utf-8")
    with pytest.raises(
        TokenizerError, match="fills texts up with '<filling>', which is not in vocab.json beside it"
    ):
        tokens.read(tmp_path, 12)


def _without(token: str):
    def change(text: str) -> str:
        kept = [key for key in json.loads(text) if key != token]
        return json.dumps({key: number for number, key in enumerate(kept)})

    return change


@pytest.mark.parametrize(
    "name, change, said",
    [
        (
            VOCABULARY,
            lambda text: text[:-40],
            r"vocab.json cannot be read as JSON \(.*\): delete it and run `dvc repro` again",
        ),
        (VOCABULARY, lambda text: "[1, 2]", "vocab.json cannot be read as JSON .it holds a list"),
        (
            VOCABULARY,
            lambda text: text.replace(": 7,", ": 8,"),
            r"holds no whole tokenizer of CLIP's kind \(vocab.json does not number its tokens 0, 1, ...\): ",
        ),
        (VOCABULARY, _without("q</w>"), "'q</w>' is in one of vocab.json and merges.txt, and not in the"),
        (VOCABULARY, _without(END), "'<|endoftext|>' is in one of vocab.json and merges.txt"),
        (VOCABULARY, _without("ring</w>"), "'ring</w>' is in one of vocab.json and merges.txt"),
        (MERGES, lambda text: "", "is in one of vocab.json and merges.txt"),
        (MERGES, lambda text: text.rpartition(" ")[0] + "\n", "is in one of vocab.json and merges.txt"),
        (MERGES, lambda text: text[: text.rindex("\n", 0, -1)], "is in one of vocab.json and merges.txt"),
        (MERGES, lambda text: text + "r ing</w>\n", "merges 'r ing</w>', which are no two tokens"),
        (MERGES, lambda text: text + "r i n g</w>\n", "merges 'r i n g</w>', which are no two tokens"),
    ],
)
def test_a_damaged_file_is_one_sentence(tokenizer, tmp_path, name, change, said):
    tokens.write(tokenizer, tmp_path)
    (tmp_path / name).write_text(change((tmp_path / name).read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(TokenizerError, match=said):
        tokens.read(tmp_path, 12)


@pytest.mark.parametrize("name", [VOCABULARY, MERGES])
def test_a_missing_file_and_one_of_other_bytes_are_one_sentence(tokenizer, tmp_path, name):
    tokens.write(tokenizer, tmp_path)
    (tmp_path / name).write_bytes(b"#version\xff\xfe")
    with pytest.raises(TokenizerError, match=f"{name} (is damaged|cannot be read)"):
        tokens.read(tmp_path, 12)
    (tmp_path / name).unlink()
    with pytest.raises(TokenizerError, match=f"{name} is not there: fetch it"):
        tokens.read(tmp_path, 12, "fetch it")
