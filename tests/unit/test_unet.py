"""The two-time UNets: which times their layers are told."""

import pytest
import torch

from fewstep.flows.conditioning import Conditions
from fewstep.networks.text_unet import TextUNet
from fewstep.networks.unet import UNet

SIZES = {"channels": [8, 8], "layers": 1, "groups": 4, "time_scale": 10.0}
TEXTS = Conditions(torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (UNet((1, 8, 8), attention=[False, False], **SIZES), ()),
        (TextUNet((1, 8, 8), attention=[False, True], heads=2, width=8, **SIZES), (TEXTS,)),
    ],
    ids=["unet", "text_unet"],
)
def test_the_layers_are_told_the_start_and_the_gap(network, words):
    told = []
    network.model.time_proj.register_forward_pre_hook(lambda _, inputs: told.append(inputs[0]))
    s, t = torch.tensor([0.1, 0.5]), torch.tensor([0.4, 0.5])
    network(s, t, torch.randn(2, 1, 8, 8), *words)
    start, gap = told
    assert torch.equal(start, s) and torch.equal(gap, t - s)
