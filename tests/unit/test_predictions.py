"""What a network predicts is a setting, and leaves no trace where it is a velocity."""

import pytest
import torch

from fewstep import DataPredictionFlowMap, NetworkFlowMap, load_flow_map, networks
from fewstep.settings.networks import MLPSettings
from fewstep.storage.checkpoint import save_checkpoint

SMALL = {
    "kind": "mlp", "width": 8, "depth": 1, "activation": "silu", "frequencies": [1], "time_frequencies": [1],
}  # fmt: skip


def test_a_network_that_predicts_data_is_built_so_and_loaded_so(tmp_path):
    settings = MLPSettings(**SMALL, predicts="data").model_dump()
    flow_map = networks.build(settings, (2,))
    assert type(flow_map) is DataPredictionFlowMap
    weights = {f"weights.{key}": value for key, value in flow_map.state_dict().items()}
    save_checkpoint(tmp_path / "seed-0.safetensors", weights, {"network": settings, "shape": [2]})
    loaded, s, t = load_flow_map(tmp_path / "seed-0.safetensors"), torch.rand(4), torch.rand(4)
    x = torch.randn(4, 2)
    assert torch.equal(loaded.jump(s, t, x), flow_map.jump(s, t, x))
    assert not torch.equal(loaded.jump(s, t, x), NetworkFlowMap(flow_map.network).jump(s, t, x))


def test_a_velocity_is_the_default_and_is_not_written_down():
    for own in ({}, {"predicts": "velocity"}):
        settings = MLPSettings(**SMALL, **own).model_dump()
        assert settings == SMALL and type(networks.build(settings, (2,))) is NetworkFlowMap


def test_a_network_that_predicts_anything_else_is_refused():
    with pytest.raises(ValueError, match="a network predicts one of velocity, data, not 'noise'"):
        networks.build(SMALL | {"predicts": "noise"}, (2,))
