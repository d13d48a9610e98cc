"""The frozen evaluation protocol of a number about images: two numbers compare only if theirs are equal."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ImageProtocol:
    """All that a number about images depends on besides the images; str() is the text in the tables' `protocol` column.

    metric:    what was measured, with its own settings ("KID, 100 subsets of 1000")
    extractor: the network of features and its checksum
    split:     the part of the data that is the reference ("train", "test")
    samples:   generated samples
    format:    how images are stored before they are measured ("uint8", "png", "jpeg 75")
    resize:    how they reach the extractor's size
    reference: the checksum of the reference's images or moments
    weights:   which of the generator's weights drew the samples ("EMA 0.9999", "last")
    seeds:     of the sampling noise

    Raises ValueError for a field that is empty or that could not be read back from the text.
    """

    metric: str
    extractor: str
    split: str
    samples: int
    format: str
    resize: str
    reference: str
    weights: str
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and (
                value != value.strip() or not value or ";" in value or "\n" in value
            ):
                raise ValueError(
                    f"the protocol's '{field.name}' is {value!r}: say it in words on one line without a semicolon"
                )
        if self.samples < 2:
            raise ValueError(
                f"the protocol's 'samples' is {self.samples}: a number about images needs two or more"
            )
        if not self.seeds or not isinstance(self.seeds, tuple):
            raise ValueError(f"the protocol's 'seeds' are {self.seeds!r}: give a tuple of one or more")

    def __str__(self) -> str:
        seeds = " ".join(str(seed) for seed in self.seeds)
        return "; ".join(
            f"{f.name}={seeds if f.name == 'seeds' else getattr(self, f.name)}" for f in fields(self)
        )


def parse(text: str) -> ImageProtocol:
    """The protocol that str() wrote into a table; raises ValueError for any other text."""
    parts = dict(part.partition("=")[::2] for part in text.split("; "))
    try:
        numbers = {
            "samples": int(parts["samples"]),
            "seeds": tuple(int(seed) for seed in parts["seeds"].split()),
        }
        found = ImageProtocol(**{**parts, **numbers})
    except (KeyError, TypeError, ValueError):
        found = None
    if str(found) != text:
        raise ValueError(
            f"{text!r} is not the protocol of a number about images: write it as str(ImageProtocol(...))"
        )
    return found


def check_comparable(a: ImageProtocol, b: ImageProtocol) -> None:
    """Raise ValueError, naming the first field that differs, unless numbers under `a` and `b` may be compared."""
    for field in fields(ImageProtocol):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if one != other:
            raise ValueError(
                f"two numbers do not compare: '{field.name}' of their evaluation protocols is {one!r} and {other!r}; measure both under one"
            )
