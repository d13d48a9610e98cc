"""SOAP is Adam where there is no matrix, and covariant under rotations where there is."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from fewstep.training import optimisers


def test_vectors_get_plain_adam():
    torch.manual_seed(0)
    start, gradients = torch.randn(5, dtype=torch.double), torch.randn(6, 5, dtype=torch.double)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    soap, adam = (
        optimisers.SOAP([ours], lr=0.1),
        torch.optim.Adam([theirs], lr=0.1, betas=(0.95, 0.95), eps=1e-8),
    )
    ours.grad = torch.ones(5, dtype=torch.double)
    soap.step()
    assert torch.equal(ours, start), "the first step only sets the basis"
    for g in gradients:
        ours.grad, theirs.grad = g.clone(), g.clone()
        soap.step(), adam.step()
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_a_rotation_of_the_problem_rotates_the_path():
    """Adam depends on the coordinates; SOAP finds its own."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, n, dtype=torch.double)).Q for n in (4, 3))
    target, curve = torch.randn(4, 3, dtype=torch.double), torch.rand(4, 3, dtype=torch.double) + 0.5
    start = torch.randn(4, 3, dtype=torch.double)

    def path(turned: bool, make) -> torch.Tensor:
        w = torch.nn.Parameter(left @ start @ right.T if turned else start.clone())
        update = make([w])
        for _ in range(25):
            plain = left.T @ w @ right if turned else w
            update.zero_grad()
            (curve * (plain - target) ** 2).sum().backward()
            update.step()
        return (left.T @ w @ right if turned else w).detach()

    soap, adam = partial(optimisers.SOAP, lr=0.05), partial(torch.optim.Adam, lr=0.05)
    assert torch.allclose(path(False, soap), path(True, soap), atol=1e-8)
    assert not torch.allclose(path(False, adam), path(True, adam), atol=1e-2)


@pytest.mark.parametrize("kind", ["adam", "radam", "soap"])
def test_every_kind_goes_downhill(kind):
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(6, 6))
    update, before = optimisers.build(kind, [w], 0.05), w.square().sum().item()
    for _ in range(200):
        update.zero_grad()
        w.square().sum().backward()
        update.step()
    assert w.square().sum() < 0.01 * before


def test_decay_takes_its_share_of_every_weight_and_leaves_adam_as_it_is():
    start, gradient, rate, decay = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.5, 0.1, -3.0]), 0.1, 0.25
    plain, decayed = (torch.nn.Parameter(start.clone()) for _ in range(2))
    for weight, own in ((plain, 0.0), (decayed, decay)):
        weight.grad = gradient.clone()
        optimisers.build("adam", [weight], rate, own).step()
    assert torch.allclose(plain - decayed, rate * decay * start, atol=1e-7)
    assert torch.allclose(plain, start - rate * gradient.sign(), atol=1e-6), (
        "Adam's first step is of its size"
    )


def test_the_first_beta_is_the_momentum():
    with_momentum, without = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for weight, momentum in ((with_momentum, 0.9), (without, 0.0)):
        optimiser = optimisers.build("adam", [weight], 1.0, momentum=momentum)
        for slope in (1.0, -1.0):
            weight.grad = torch.full((1,), slope)
            optimiser.step()
    # without momentum the second step undoes the first, nearly: with it, it follows the mean of both
    assert without.abs() < 0.01 < with_momentum.abs() - 0.5
