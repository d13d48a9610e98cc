"""What the tests of the site share: results of tier smoke, weights and samples, and what a page holds."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fewstep.networks import build
from fewstep.pipeline import site
from fewstep.settings.names import ZOO
from fewstep.storage.checkpoint import save_checkpoint
from fewstep.storage.files import LIST, read_written

TIER = "smoke"
MLP = {"kind": "mlp", "width": 16, "depth": 2, "frequencies": [1, 2], "time_frequencies": [1]}
CAPTIONS = [f"a red circle < {k}" for k in range(9)]
# method, its steps and its network calls, by experiment, with the shape of a sample and the highest level
DRAWN = {
    "fmm-checkerboard": ((2,), 0, {"si": {1: 1, 4: 4, 80: 80}, "lmd": {1: 1, 2: 2}}),
    "fmm-cifar10": ((1, 8, 8), 16, {"si": {2: 2, 8: 8}, "lmd": {1: 1, 2: 2, 4: 4}, "si-heun": {2: 4}}),
    "scflow-coco2017": ((3, 32, 32), 255, {"si": {4: 8}, "scflow": {1: 1, 4: 4}}),
    "zoo-digits": ((1, 8, 8), 16, {"lmd": {1: 1}}),
}  # fmt: skip
COUNT = 40


def weights(path: Path, activation: str, seed: int) -> None:
    """A network whose every weight counts."""
    network = MLP | {"activation": activation}
    flow_map, generator = build(network, (2,)), torch.Generator().manual_seed(seed)
    tensors = {
        f"weights.{name}": torch.randn(own.shape, generator=generator) / own.shape[-1] ** 0.5
        for name, own in flow_map.state_dict().items()
    }
    save_checkpoint(path, tensors, {"network": network, "shape": [2], "fingerprint": "x"})


def drawn(experiment: str, name: str) -> np.ndarray:
    """The samples in the file `name`, the same whenever they are asked for."""
    (shape, top, _), generator = DRAWN[experiment], np.random.default_rng(list(name.encode()))
    if len(shape) == 1:
        return generator.uniform(-1, 1, (COUNT, *shape)).astype(np.float32)
    return generator.integers(0, top + 1, (COUNT, *shape), dtype=np.uint8)


def samples(folder: Path, experiment: str) -> None:
    """What `sample.draw` leaves of an experiment, of two sampling seeds."""
    own, rows = folder / experiment, []
    own.mkdir(parents=True)
    for method, calls in DRAWN[experiment][2].items():
        for (steps, nfe), seed in ((both, seed) for both in calls.items() for seed in (0, 1)):
            name = f"{method}{steps}-{seed}.npy"
            np.save(own / name, drawn(experiment, name))
            rows.append([method, method, "euler", steps, 0, seed, nfe, COUNT, name])
    columns = "method network sampler steps train_seed sample_seed nfe count file".split()
    pd.DataFrame(rows, columns=columns).to_csv(own / "index.csv", index=False)
    if experiment.startswith("scflow"):
        (own / "prompts.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")


def published(root: Path, beside: str = "") -> site.Published:
    """The committed results of tier smoke, of the main pipeline or the zoo, without the site."""
    written = read_written(root / "results" / TIER, f"{ZOO}.json" if beside else LIST)
    found = site.Published.read({k: v for k, v in written.items() if not k.startswith("site/")}, beside)
    if not beside:
        # smoke's own protocol is nobody's, so one published number is put here
        next(iter(found.tables.values())).loc[0, ["published", "status"]] = [0.5, "confirmed"]
    return found


class Links(HTMLParser):
    """What a page links to, what it loads, its anchors, and the pictures that say nothing."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: list[str] = []
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        words = dict(attrs)
        if "id" in words:
            self.anchors.append(words["id"])
        if tag == "a":
            self.links.append(words["href"])
        elif tag in ("link", "script", "img", "iframe", "source", "object"):
            self.loaded += [words[key] for key in ("href", "src", "data") if words.get(key)]
        if tag == "img" and not words.get("alt") and "src" in words:
            self.silent.append(words["src"])


def slide(name: str, value: float) -> str:
    own = f"document.querySelector('#{name}')"
    return f"{own}.value = {json.dumps(value)}; {own}.dispatchEvent(new Event('input'))"


def seen(selector: str, value: str) -> str:
    """`value` of each element `own` that is on the page and not hidden."""
    found = f"[...document.querySelectorAll('{selector}')].filter((own) => own.offsetParent)"
    return f"{found}.map((own) => {value})"
