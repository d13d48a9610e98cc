"""The discriminator of latents: its layers' scales, its groups, and the derivatives that R1 takes twice."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch.nn import functional as F

from fewstep.networks import kinds
from fewstep.networks.discriminator import (
    Block,
    Blur,
    Discriminator,
    Equalised,
    active,
    group_size,
    with_deviation,
)


def latents(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(shape=(4, 8, 8), channels=(6, 8), seed: int = 0, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Discriminator(shape, channels, **more).double()


@pytest.mark.parametrize(
    "shape, channels", [((4, 8, 8), (6, 8)), ((4, 32, 32), (4, 5, 6, 7)), ((3, 4, 4), (5,))]
)
def test_one_logit_a_sample_from_any_resolution(shape, channels):
    assert small(shape, channels)(latents(8, *shape)).shape == (8,)


def test_it_is_no_network_of_params_yaml():
    assert "discriminator" not in kinds()


def test_the_paper_s_sizes():
    with torch.device("meta"):
        network = Discriminator((4, 32, 32), (512,) * 4)
    sizes = [tuple(p.shape) for p in network.parameters() if p.ndim > 1]
    block = [(512, 512, 3, 3), (512, 512, 3, 3), (512, 512, 1, 1)]
    assert sizes == [(512, 4, 1, 1), *block * 3, (512, 513, 3, 3), (512, 512 * 16), (1, 512)]


# Equalised learning rate --------------------------------------------------------------------------------


def test_weights_are_standard_normal_and_scaled_where_they_are_used():
    torch.manual_seed(0)
    layer = Equalised(32, 48, 3, gain=sqrt(2), padding=1).double()
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02) and not layer.bias.any()
    torch.nn.init.normal_(layer.bias)
    x = latents(2, 32, 8, 8)
    expected = sqrt(2) * (F.conv2d(x, layer.weight, padding=1) / sqrt(32 * 9) + layer.bias[:, None, None])
    assert torch.allclose(layer(x), expected)
    # sqrt 2 before the leaky ReLU is sqrt 2 after it
    assert torch.allclose(active(layer(x)), sqrt(2) * F.leaky_relu(expected / sqrt(2), 0.2))
    linear = Equalised(50, 7).double()
    assert torch.allclose(linear(x.flatten(1)[:, :50]), x.flatten(1)[:, :50] @ linear.weight.T / sqrt(50))


def test_one_step_of_adam_moves_every_layer_by_the_same_fraction():
    network = small(channels=(6, 48))
    before = [p.detach().clone() for p in network.parameters() if p.ndim > 1]
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    network(latents(8, 4, 8, 8)).sum().backward()
    optimiser.step()
    moved = [
        (p - old).abs().median().item()
        for p, old in zip([p for p in network.parameters() if p.ndim > 1], before)
    ]
    assert moved == pytest.approx([0.01] * len(moved), rel=1e-2)


def test_activations_keep_their_size_through_the_network():
    network, x, sizes = small((4, 32, 32), (24, 32, 40, 48)), latents(16, 4, 32, 32), []
    x = active(network.enter(x))
    for block in network.blocks:
        sizes.append(x.square().mean().sqrt().item())
        x = block(x)
    sizes.append(x.square().mean().sqrt().item())
    # neighbours are independent at first, and the blur averages that away
    assert all(0.2 < size < 2 for size in sizes)


# A block ------------------------------------------------------------------------------------------------


def test_the_blur_keeps_means_and_drops_what_alternates():
    blur = Blur(padding=2).double()
    assert torch.allclose(
        blur(torch.ones(1, 3, 9, 9, dtype=torch.float64))[..., 2:-2, 2:-2],
        torch.ones((), dtype=torch.float64),
    )
    stripes = torch.ones(1, 3, 9, 9, dtype=torch.float64)
    stripes[..., ::2] = -1
    assert blur(stripes)[..., 2:-2, 2:-2].abs().max() < 1e-12
    x = latents(2, 3, 8, 8)
    one_tap = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    expected = torch.einsum(
        "bcijkl,k,l->bcij", F.pad(x, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2), one_tap, one_tap
    )
    assert torch.allclose(Blur(padding=1, stride=2).double()(x), expected)


def test_a_block_is_the_sum_of_its_parts_by_sqrt_2():
    torch.manual_seed(0)
    block, x = Block(5, 7).double(), latents(2, 5, 16, 16)
    for layer in (block.first, block.second):
        torch.nn.init.normal_(layer.bias)

    def conv(layer, x, **how):
        bias = 0 if layer.bias is None else layer.bias[:, None, None]
        return F.conv2d(x, layer.weight / sqrt(layer.weight[0].numel()), **how) + bias

    kernel = block.blur.kernel.expand(5, 1, 4, 4)
    main = sqrt(2) * F.leaky_relu(conv(block.first, x, padding=1), 0.2)
    main = sqrt(2) * F.leaky_relu(
        conv(block.second, F.conv2d(main, kernel, padding=2, groups=5), stride=2), 0.2
    )
    skip = conv(block.skip, F.conv2d(x, kernel, padding=1, groups=5)[..., ::2, ::2])
    assert main.shape == (2, 7, 8, 8)
    assert torch.allclose(block(x), (main + skip) / sqrt(2))


def test_a_block_sees_both_halves_of_an_image_alike():
    """Down and up, left and right: a filter of even length must not shift one way."""
    block = Block(3, 4).double()
    for layer in (block.first, block.second):
        layer.weight.data = layer.weight + layer.weight.flip(2, 3)
    x = latents(2, 3, 8, 8)
    assert torch.allclose(block(x.flip(2, 3)).flip(2, 3), block(x))


# The minibatch's deviation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch, size", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (8, 4), (10, 2), (64, 4)]
)
def test_a_group_is_the_largest_divisor_up_to_four(batch, size):
    assert group_size(batch, 4) == size
    assert with_deviation(latents(batch, 3, 4, 4), 4).shape == (batch, 4, 4, 4)


def test_the_last_channel_is_the_mean_deviation_of_four_in_a_row():
    x = latents(8, 3, 4, 4)
    found = with_deviation(x, 4)
    assert torch.equal(found[:, :3], x)
    for k in range(8):
        group = x[4 * (k // 4) : 4 * (k // 4) + 4]
        expected = group.std(0, correction=0).mean()
        assert torch.allclose(found[k, 3], expected.expand(4, 4))


def test_real_and_fake_are_never_mixed_where_halves_are_whole_groups():
    network, real, fake = small(), latents(12, 4, 8, 8, seed=1), 3 * latents(8, 4, 8, 8, seed=2)
    both = network(torch.cat([real, fake]))
    assert torch.allclose(both, torch.cat([network(real), network(fake)]))
    changed = network(torch.cat([real, 2 * fake]))
    assert torch.allclose(changed[:12], both[:12]) and not torch.allclose(changed[12:], both[12:])
    # within a group they do see each other
    other = real.clone()
    other[0] += 1
    seen = (network(other) - network(real)).abs() > 1e-9
    assert seen.tolist() == [True] * 4 + [False] * 8


@pytest.mark.parametrize("half", [1, 3, 4, 5, 6, 7])
def test_parts_keep_real_and_fake_apart_whatever_their_number(half):
    network, real, fake = small(), latents(half, 4, 8, 8, seed=1), 3 * latents(half, 4, 8, 8, seed=2)
    assert torch.allclose(network(torch.cat([real, fake]), 2), torch.cat([network(real), network(fake)]))


# R1 -----------------------------------------------------------------------------------------------------


def penalty(network, z: torch.Tensor) -> torch.Tensor:
    """|grad D|^2 of each sample, added up."""
    z = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(z).sum(), z, create_graph=True)
    return gradient.square().sum()


def test_r1_and_its_gradient_agree_with_finite_differences():
    network, z = small(), latents(8, 4, 8, 8)
    # the first derivative along a direction, from values
    direction, step = latents(8, 4, 8, 8, seed=3), 1e-6
    inside = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(inside).sum(), inside)
    change = (network(z + step * direction).sum() - network(z - step * direction).sum()) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(change.item(), rel=1e-5)
    # the second, of the penalty along a direction of each weight
    value = penalty(network, z)
    value.backward()
    for name, p in network.named_parameters():
        if p.grad is None:
            # the last bias is in no derivative by the latents
            assert name == "out.bias"
            continue
        along = torch.randn(p.shape, generator=torch.Generator().manual_seed(7), dtype=p.dtype)
        with torch.no_grad():
            p += step * along
        above = penalty(network, z).item()
        with torch.no_grad():
            p -= 2 * step * along
        below = penalty(network, z).item()
        with torch.no_grad():
            p += step * along
        assert (p.grad * along).sum().item() == pytest.approx(
            (above - below) / (2 * step), rel=1e-3, abs=1e-6 * value.item()
        ), name


@pytest.mark.parametrize("batch", [1, 4])
def test_samples_that_do_not_differ_have_finite_derivatives(batch):
    network, z = small(), latents(1, 4, 8, 8).expand(batch, -1, -1, -1)
    value = penalty(network, z)
    value.backward()
    assert value.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_it_tells_two_kinds_of_latents_apart():
    network = small(channels=(12, 12)).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.0, 0.99))
    for step in range(30):
        real, fake = (
            latents(16, 4, 8, 8, seed=step).float(),
            0.5 * latents(16, 4, 8, 8, seed=1000 + step).float(),
        )
        # SCFlow's L_D: softplus(-D(real)) + softplus(D(fake)) + |grad D(real)|^2 / 2
        loss = (F.softplus(-network(real)) + F.softplus(network(fake))).mean() + penalty(
            network, real
        ) / 16 / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    real, fake = latents(16, 4, 8, 8, seed=5000).float(), 0.5 * latents(16, 4, 8, 8, seed=6000).float()
    assert network(real).min() > network(fake).max()
