"""The evaluation protocol of a number about images: two numbers compare only if theirs are equal."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ImageProtocol:
    """All that a number about images depends on besides the images; str() is the tables' `protocol` column.

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
            if isinstance(value, str) and (not value or value != value.strip() or {";", "\n"} & set(value)):
                sentence = f"the protocol's '{field.name}' is {value!r}"
                raise ValueError(f"{sentence}: give one line without a semicolon")
        if self.samples < 2:
            raise ValueError(f"the protocol's 'samples' is {self.samples}: give two or more")
        # one that is repeated would count twice and vary by nothing
        if not self.seeds or not isinstance(self.seeds, tuple) or len(set(self.seeds)) < len(self.seeds):
            cure = "give a tuple of one or more, all different"
            raise ValueError(f"the protocol's 'seeds' are {self.seeds!r}: {cure}")

    def __str__(self) -> str:
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        said["seeds"] = " ".join(map(str, self.seeds))
        return "; ".join(f"{name}={value}" for name, value in said.items())


def parse(text: str) -> ImageProtocol:
    """The protocol that str() wrote into a table; raises ValueError for any other text."""
    parts = dict(part.partition("=")[::2] for part in text.split("; "))
    try:
        samples, seeds = int(parts.pop("samples")), tuple(int(seed) for seed in parts.pop("seeds").split())
        found = ImageProtocol(samples=samples, seeds=seeds, **parts)
        if str(found) == text:
            return found
    except (KeyError, TypeError, ValueError):
        pass
    cure = "write it as str(ImageProtocol(...))"
    raise ValueError(f"{text!r} is not the protocol of a number about images: {cure}")
