"""A method whose weights come from a file, such as a converted teacher: used as they are, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep import networks
from fewstep.data.formats.archives import ENVIRONMENT
from fewstep.evaluation.plots.curves import part_curves, training_curves
from fewstep.networks import load_flow_map
from fewstep.storage.checkpoint import CheckpointError, save_checkpoint
from fewstep.storage.workspace import SCRATCH, Workspace
from fewstep.training import train
from fewstep.training.experiment import Experiment
from fewstep.training.weights import load_log

NAME = "fmm-checkerboard"


@pytest.fixture
def experiment(smoke, tmp_path, monkeypatch):
    """The checkerboard's experiment, its `si` with the weights of teachers/si.safetensors, below tmp_path."""
    monkeypatch.setenv(SCRATCH, str(tmp_path / "scratch"))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    experiment = smoke.experiment(NAME)
    methods = experiment.methods | {
        "si": experiment.method("si").model_copy(update={"weights": "teachers/si.safetensors"})
    }
    return Experiment(
        NAME, Workspace(tmp_path, "smoke"), experiment.model_copy(update={"methods": methods}), smoke.compute
    )


def write(folder, network: dict, shape: tuple[int, ...] = (2,)):
    torch.manual_seed(5)
    flow_map = networks.build(network, shape)
    weights = {f"weights.{name}": value for name, value in flow_map.state_dict().items()}
    log = {"log.loss": torch.zeros(0), "log.gradient_norm": torch.zeros(0)}
    save_checkpoint(
        folder / "teachers" / "si.safetensors",
        weights | log,
        {"network": network, "shape": list(shape), "fingerprint": "x", "steps": 0},
    )
    return flow_map


def test_the_files_weights_are_the_methods_for_every_seed(experiment, tmp_path):
    given = write(tmp_path, experiment.settings.training.network.model_dump())
    files = train.train(experiment, "si")["si"]
    assert list(files) == experiment.settings.training.seeds
    for path in files.values():
        assert all(
            torch.equal(value, given.state_dict()[name])
            for name, value in load_flow_map(path).state_dict().items()
        )
    # a student's fingerprint follows the file's
    assert all(train.job(experiment, "lmd", seed) for seed in files)


def test_weights_of_another_network_or_none_are_refused(experiment, tmp_path):
    with pytest.raises(CheckpointError, match=r"teachers/si\.safetensors is not there"):
        train.train(experiment, "si")
    write(tmp_path, experiment.settings.training.network.model_dump() | {"width": 8})
    with pytest.raises(
        CheckpointError,
        match="holds weights of another network, .*'width': 8.* convert the right file, or change",
    ):
        train.train(experiment, "si")
    assert not list((tmp_path / "scratch").rglob("*.safetensors"))


def test_nothing_is_shown_of_a_training_that_was_none(experiment, tmp_path):
    write(tmp_path, experiment.settings.training.network.model_dump())
    files = train.train(experiment, "si")["si"]
    found = train.summary(experiment, {"si": files})
    assert found["weights from"].tolist() == ["teachers/si.safetensors"] * len(files)
    assert list(found.index) == [("SI", f"seed {seed}") for seed in files]
    logs = [load_log(path) for path in files.values()]
    # a warning would be an error here
    assert training_curves({"SI": logs}, "title").numbers == {} == part_curves(logs, "title").numbers
    ran = {"loss": np.array([1.0, 0.5]), "gradient_norm": np.array([2.0, 1.0])}
    both = training_curves({"SI": logs, "LMD": [ran]}, "title")
    assert list(both.numbers) == ["LMD, loss", "LMD, gradient_norm"] and [
        text.get_text() for text in both.figure.axes[1].get_legend().get_texts()
    ] == ["LMD"]
