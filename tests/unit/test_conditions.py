"""Text-conditional flows: the wrapper, guidance, the network, the discriminator, both loops on latents."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch

from fewstep import data, networks, objectives
from fewstep.flows import samplers
from fewstep.flows.conditioning import Conditioned, Conditions, conditioned, draw, first, guided
from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.flows.interpolants import LINEAR, Batch
from fewstep.networks import load_flow_map
from fewstep.networks.discriminator import TextDiscriminator
from fewstep.networks.text_unet import _read
from fewstep.objectives.reflow import reflow
from fewstep.settings.training import Method, Training
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.training import job as run
from fewstep.training import loops, train
from fewstep.training.processes import Processes

SHAPE, TOKENS, WIDTH = (4, 8, 8), 5, 16
NETWORK = {
    "kind": "text_unet",
    "channels": [8, 16],
    "layers": 1,
    "attention": [False, True],
    "heads": 2,
    "groups": 4,
    "time_scale": 10.0,
    "width": WIDTH,
    "text_layers": 1,
}


def conditions(count: int, seed: int = 0) -> Conditions:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(TOKENS) < torch.randint(2, TOKENS + 1, (count, 1), generator=generator)
    return Conditions(torch.randn(count, TOKENS, WIDTH, generator=generator), mask)


class Linear(torch.nn.Module):
    """v_{s,t}(x | c) = a(c) x, a(c) the mean of the text's numbers: a closed form."""

    def forward(self, s, t, x, texts):
        return texts.hidden.mean((1, 2))[:, None] * x


LINE = NetworkFlowMap(Linear())


def test_a_flow_map_at_texts_is_the_network_at_them_and_rounds_repeat_them():
    texts, x, t = conditions(3), torch.randn(3, 2), torch.rand(3)
    flow = conditioned(LINE, texts)
    slope = texts.hidden.mean((1, 2))[:, None]
    assert torch.equal(flow.velocity(t, x), slope * x)
    assert torch.equal(flow.jump(torch.zeros(3), torch.ones(3), x), x + slope * x)
    twice = flow.velocity(torch.cat([t, t]), torch.cat([x, 2 * x]))
    assert torch.allclose(twice, torch.cat([slope * x, 2 * slope * x]))
    assert torch.equal(first(flow, 2).velocity(t[:2], x[:2]), slope[:2] * x[:2])
    assert conditioned(LINE, None) is LINE and first(LINE, 2) is LINE
    with pytest.raises(ValueError, match="4 samples do not go with 3 captions"):
        flow.velocity(torch.rand(4), torch.randn(4, 2))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, 4.0])
def test_guidance_is_its_formula(scale):
    texts, empty, x, t = (
        conditions(3),
        conditions(1, 1),
        torch.randn(3, 2, generator=torch.Generator().manual_seed(2)),
        torch.rand(3),
    )
    slope, without = texts.hidden.mean((1, 2))[:, None], empty.hidden.mean()
    found = guided(conditioned(LINE, texts, empty), scale).velocity(t, x)
    assert torch.allclose(found, without * x + scale * (slope - without) * x, atol=1e-6)
    rounds = guided(conditioned(LINE, texts, empty), scale).velocity(torch.cat([t, t]), torch.cat([x, x]))
    assert torch.allclose(rounds, torch.cat([found, found]), atol=1e-6)


def test_guidance_without_texts_or_an_empty_one_is_refused():
    with pytest.raises(ValueError, match="takes none: remove the guidance"):
        guided(LINE, 1.5)
    with pytest.raises(ValueError, match="was given none"):
        guided(conditioned(LINE, conditions(2)), 1.5)
    assert guided(LINE, None) is LINE


def test_the_empty_text_goes_where_the_texts_are():
    """Sources keep it on the CPU, and guidance puts it into one batch with texts on a GPU."""
    texts, empty = (
        Conditions(torch.empty(2, 5, 4, device="meta"), torch.empty(2, 5, dtype=torch.bool, device="meta")),
        conditions(1),
    )
    own = conditioned(NetworkFlowMap(Linear()), texts, empty)
    assert (
        own.empty.hidden.device == own.empty.mask.device == texts.hidden.device
        and empty.hidden.device.type == "cpu"
    )
    assert conditioned(NetworkFlowMap(Linear()), texts).empty is None


def test_the_guided_sampler_counts_both_calls_and_is_euler_on_the_guided_velocity():
    texts, empty, x0 = conditions(3), conditions(1, 1), torch.randn(3, 2)
    flow = conditioned(LINE, texts, empty)
    drawn = samplers.named("guided-2", torch.Generator())(flow, x0, 4)
    assert drawn.nfe == 8
    by_hand, slope = x0, texts.hidden.mean((1, 2))[:, None]
    for _ in range(4):
        by_hand = by_hand + (empty.hidden.mean() + 2 * (slope - empty.hidden.mean())) * by_hand / 4
    assert torch.allclose(drawn.points, by_hand, atol=1e-5)
    alone = samplers.named("guided-1", torch.Generator())(flow, x0, 4)
    assert alone.nfe == 4 and torch.equal(alone.points, samplers.euler(flow, x0, 4).points)
    with pytest.raises(ValueError, match="guided-<scale>"):
        samplers.named("guided-", torch.Generator())


def test_reflow_with_several_samples_a_solution_repeats_their_texts():
    """The teacher's solution of a text is linear in x0, so the student that knows it exactly has no loss.

    One with the texts shifted has.
    """
    texts, x0 = conditions(3), torch.randn(3, 2)
    slope = texts.hidden.mean((1, 2))[:, None]

    class Straight(torch.nn.Module):
        """The straight flow between x0 and the end of one Euler step, x0 (1 + a).

        V(x, t) = a x / (1 + a t).
        """

        def forward(self, s, t, x, own):
            a = own.hidden.mean((1, 2))[:, None]
            return a * x / (1 + a * s[:, None])

    batch = Batch(x0.repeat(2, 1), torch.zeros(6, 2), torch.rand(6), torch.ones(6), torch.rand(6), LINEAR)
    both = texts.times(2)
    # the texts of the second round are those of the first: what the batch has there does not count
    other = Conditions(torch.cat([texts.hidden, texts.hidden.flip(0)]), both.mask)
    for these in (both, other):
        loss = reflow(
            conditioned(NetworkFlowMap(Straight()), these), batch, conditioned(LINE, these), steps=1, times=2
        )
        assert torch.allclose(loss, torch.zeros(6), atol=1e-10)
    assert slope.abs().min() > 1e-3
    wrong = conditioned(NetworkFlowMap(Straight()), Conditions(texts.hidden.flip(0), texts.mask).times(2))
    assert reflow(wrong, batch, conditioned(LINE, both), steps=1, times=2).max() > 1e-5


def network() -> NetworkFlowMap:
    torch.manual_seed(0)
    flow = networks.build(NETWORK, SHAPE)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return flow.requires_grad_(False).eval()


def test_the_network_reads_its_text_and_not_the_filling():
    flow, texts, x, t = network(), conditions(3), torch.randn(3, *SHAPE), torch.rand(3)
    own = conditioned(flow, texts).velocity(t, x)
    assert own.shape == x.shape
    filled = Conditions(torch.where(texts.mask[:, :, None], texts.hidden, 7.0), texts.mask)
    assert torch.allclose(conditioned(flow, filled).velocity(t, x), own, atol=1e-5)
    assert not torch.allclose(conditioned(flow, conditions(3, 9)).velocity(t, x), own, atol=1e-3)


def test_readers_look_at_a_text_in_both_directions_and_under_its_mask():
    built, texts = network().network, conditions(2)
    own = _read(built.readers, texts)
    first, last = texts.hidden.clone(), texts.hidden.clone()
    first[:, 0] *= -1
    last[torch.arange(2), texts.mask.sum(1) - 1] *= -1
    for changed, seen in ((first, texts.mask.sum(1) - 1), (last, torch.zeros(2, dtype=torch.long))):
        moved = (_read(built.readers, Conditions(changed, texts.mask)) - own)[torch.arange(2), seen].abs()
        assert moved.amax(1).min() > 1e-5, "the first token and the last know of each other"
    filled = Conditions(torch.where(texts.mask[:, :, None], texts.hidden, 7.0), texts.mask)
    assert torch.allclose(_read(built.readers, filled)[texts.mask], own[texts.mask], atol=1e-6)
    assert torch.equal(
        _read(networks.build(NETWORK | {"text_layers": 0}, SHAPE).network.readers, texts), texts.hidden
    )


def test_the_network_has_both_times_and_a_forward_mode_derivative():
    flow, texts, x = network(), conditions(2), torch.randn(2, *SHAPE)
    s, t = torch.tensor([0.2, 0.4]), torch.tensor([0.6, 0.9])
    own = Conditioned(flow, texts)
    assert not torch.allclose(own.average_velocity(s, t, x), own.average_velocity(s, s, x), atol=1e-4)
    jump, step = own.jump_dt(s, t, x), 1e-2
    difference = (own.jump(s, t + step, x) - own.jump(s, t - step, x)) / (2 * step)
    assert torch.allclose(jump.tangent, difference, atol=2e-3)


@pytest.mark.parametrize("name", ["ctm", "imm", "contrastive", "discrete_consistency", "imeanflow"])
def test_objectives_that_carry_or_pair_samples_keep_their_captions(name):
    """Each sample is asked for with its own caption: in another order of both the same values follow."""
    flow, texts, generator = network().requires_grad_(True), conditions(4), torch.Generator().manual_seed(1)
    x0, x1 = torch.randn(2, 4, *SHAPE, generator=generator)
    s, t, g = torch.rand(3, 2, generator=generator).repeat(1, 2)
    batch = Batch(x0, x1, s, t, g, LINEAR)
    found = objectives.bind(name, {}, conditioned(flow, texts))(conditioned(flow, texts), batch)
    found.sum().backward()
    assert any(parameter.grad.any() for parameter in flow.parameters() if parameter.grad is not None)
    turn = torch.tensor([2, 3, 0, 1])  # the same pairs, and each sample after the same
    turned = Batch(x0[turn], x1[turn], s[turn], t[turn], g[turn], LINEAR)
    own = conditioned(flow, Conditions(texts.hidden[turn], texts.mask[turn]))
    other = objectives.bind(name, {}, own)(own, turned)
    assert torch.allclose(other, found[turn], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"attention": [True]}, "same number of `block_out_channels`"),
        ({"channels": [6, 16]}, r"num_channels \(\d+\) must be divisible by num_groups"),
        (
            {"channels": [8] * 5, "attention": [True] * 5},
            "5 levels of a text_unet halve the image 4 times: 8 x 8 is not divisible by 16",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        networks.build(NETWORK | wrong, SHAPE)


def test_the_discriminator_starts_from_the_teachers_encoder_and_sees_time_noise_and_text():
    teacher, texts, z = network(), conditions(4), torch.randn(4, *SHAPE)
    torch.manual_seed(1)
    critic = TextDiscriminator(teacher.network, 8)
    theirs = teacher.state_dict()
    for name, value in critic.state_dict().items():
        if not name.startswith("head."):
            place = "network." if name.startswith("encoder.readers.") else "network.model."
            assert torch.equal(value, theirs[name.replace("encoder.", place, 1)]), name
    assert all(parameter.requires_grad for parameter in critic.parameters())
    t, noise = torch.rand(4), torch.randn(4, *SHAPE)
    own = critic.at(t, noise, texts)(z)
    assert own.shape == (4,)
    assert torch.allclose(critic.at(t, noise, texts)(torch.cat([z, 2 * z]), 2)[:4], own, atol=1e-5)
    # at time 1 nothing is left of the latents, at time 0 nothing of the noise
    assert torch.allclose(
        critic.at(torch.ones(4), noise, texts)(z), critic.at(torch.ones(4), noise, texts)(-z), atol=1e-6
    )
    assert torch.allclose(
        critic.at(torch.zeros(4), noise, texts)(z), critic.at(torch.zeros(4), -noise, texts)(z), atol=1e-6
    )
    assert not torch.allclose(critic.at(t, noise, conditions(4, 3))(z), own, atol=1e-4)


def test_the_released_head_is_one_convolution_and_a_sigmoid_of_all_places():
    shape = (SHAPE[0], 16, 16)
    torch.manual_seed(1)
    critic = TextDiscriminator(networks.build(NETWORK, shape).network, 6, shape)
    sizes = {name: tuple(p.shape) for name, p in critic.head.named_parameters() if p.ndim > 1}
    width = critic.encoder.width
    # of the two levels the coarsest is 8 x 8: as in Stable Diffusion, 3 x 3 places
    assert sizes == {"0.weight": (6, width, 4, 4), "4.weight": (1, 6 * 9)}
    t, z, texts = torch.rand(4), torch.randn(4, *shape), conditions(4)
    h = critic.encoder(1 - t, z, texts)
    convolution, norm, _, _, linear, *_ = critic.head
    h = torch.nn.functional.silu(norm(torch.nn.functional.conv2d(h, convolution.weight, convolution.bias, 2)))
    torch.testing.assert_close(critic(z, t, texts), torch.sigmoid(linear(h.flatten(1)))[:, 0])
    with pytest.raises(ValueError, match=r"takes features of at least 4 x 4.*: leave `released` out"):
        TextDiscriminator(networks.build(NETWORK, (SHAPE[0], 4, 4)).network, 6, (SHAPE[0], 4, 4))


@dataclass(frozen=True)
class Source:
    """Latents of two kinds, each with its text."""

    shape: tuple[int, ...] = SHAPE
    scale: float = 1.0
    conditional: bool = True

    @property
    def empty(self) -> Conditions:
        return conditions(1, 11)

    def sample_with_conditions(self, count, generator):
        kind = torch.randint(2, (count,), generator=generator)
        both = conditions(2, 12)
        points = 0.1 * torch.randn(count, *SHAPE, generator=generator) + (2.0 * kind - 1)[:, None, None, None]
        return points, Conditions(both.hidden[kind], both.mask[kind])

    def sample(self, count, generator):
        return self.sample_with_conditions(count, generator)[0]


def test_dropped_texts_become_the_empty_one():
    source, generator = Source(), torch.Generator().manual_seed(0)
    _, texts = draw(source, 400, 0.25, generator)
    lost = (texts.hidden == source.empty.hidden).flatten(1).all(1)
    assert 70 < int(lost.sum()) < 130
    assert torch.equal(texts.mask[lost], source.empty.mask.expand(int(lost.sum()), -1))
    _, whole = draw(source, 50, 0.0, generator)
    assert not (whole.hidden == source.empty.hidden).flatten(1).all(1).any()


@pytest.fixture
def jobs(tmp_path, smoke, monkeypatch):
    """job(name, method, teacher): a run on latents with texts."""
    monkeypatch.setattr(run.Job, "source", property(lambda self: Source()))
    shared = smoke.experiment("fmm-cifar10").training.model_dump(exclude_none=True) | {
        "network": NETWORK,
        "batch": 8,
        "seeds": [0],
    }

    def made(name: str, method: dict, teacher=None) -> run.Job:
        return run.Job(
            Training.model_validate(shared),
            Method.model_validate(method),
            0,
            tmp_path / f"{name}.state",
            teacher,
        )

    return made


SI = {
    "label": "SI",
    "steps": 4,
    "conditioning_dropout": 0.1,
    "terms": [{"objective": "si", "times": {"region": "diagonal"}}],
}


STRAIGHT = {"label": "R", "steps": 4, "teacher": "si", "start": "teacher",
            "guidance_scale": 1.5, "conditioning_dropout": 0.1,
            "terms": [
                {"objective": "reflow", "times": {"region": "diagonal"}, "options": {"steps": 2, "times": 2}}
            ]}  # fmt: skip
CORRECTED = {
    "label": "SCFlow", "steps": 4, "teacher": "si", "start": "teacher", "guidance_scale": 1.5,
    "self_correction": {
        "threshold": 0.1, "truncation": 0.1, "reflow": {"weight": 0.1}, "bidirectional": {"weight": 0.1},
        "adversarial": {"weight": 0.1, "lr": 1e-3, "r1": 0.0, "head": 8},
    },
}  # fmt: skip


@pytest.fixture
def taught(jobs, tmp_path, monkeypatch):
    """The file of a teacher of latents with texts."""
    teacher = jobs("si", SI)
    run.advance(teacher, "mark", 4)
    monkeypatch.setattr(data, "prepared_checksum", lambda folder: "latents")
    train.publish(teacher, "mark", tmp_path / "si.safetensors")
    return tmp_path / "si.safetensors"


@dataclass(frozen=True)
class Side(Processes):
    """One of two that train together as threads of this process.

    They leave their gradients on `table`, and wait for each other.
    """

    table: tuple[list, threading.Barrier] = ()

    def sum(self, loss, parameters):
        heap, barrier = self.table
        own = [loss, *(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters)]
        heap[self.rank] = own
        barrier.wait()
        total, *sums = (a + b for a, b in zip(*heap))
        barrier.wait()
        for parameter, summed in zip(parameters, sums):
            parameter.grad = summed
        return total


# a solution of the teacher that serves several samples is shared within a process: here it serves one
ONE_EACH = STRAIGHT | {"terms": [STRAIGHT["terms"][0] | {"options": {"steps": 2}}]}


@pytest.mark.parametrize("method", [SI, ONE_EACH, CORRECTED], ids=["si", "straight", "corrected"])
def test_two_that_train_together_each_read_the_texts_of_their_share(jobs, taught, method):
    """Three steps of two sides are three steps of one, student and discriminator, to what the order of a sum
    leaves, which Adam makes larger where a gradient is small.
    """
    job = jobs("shared", method, taught if "teacher" in method else None)
    loop, flow, table = (
        loops.load(job.method.loop),
        load_flow_map(taught),
        ([None, None], threading.Barrier(2, timeout=60)),
    )
    alone, *sides = (
        loop.Loop(job, loop.start(job, flow), flow, place)
        for place in (Processes(), Side(0, 2, table), Side(1, 2, table))
    )
    for _ in range(3):
        alone.step()
        with ThreadPoolExecutor(2) as both:
            list(both.map(lambda side: side.step(), sides))
    start = loop.start(job, flow)
    for network in set(alone.state.networks) - {"ema"}:
        first, *found = (
            torch.cat([p.flatten() for p in state.networks[network].parameters()])
            for state in (start, alone.state, *(side.state for side in sides))
        )
        assert (found[0] - first).norm() > 1e-3 * first.norm(), f"{network} must have moved"
        assert torch.equal(found[1], found[2]), network
        assert (found[1] - found[0]).norm() < 1e-4 * found[0].norm(), network


def test_both_loops_train_on_latents_with_texts_and_resume_exactly(jobs, taught, tmp_path):
    for name, method in (("straight", STRAIGHT), ("corrected", CORRECTED)):
        whole, pieces = (
            jobs(f"{name}-{kind}", method, tmp_path / "si.safetensors") for kind in ("whole", "pieces")
        )
        run.advance(whole, "mark", 4)
        for until in (1, 3, 4):
            run.advance(pieces, "mark", until)
        assert whole.state.read_bytes() == pieces.state.read_bytes()
        state = load_checkpoint(whole.state)[0]
        start = load_checkpoint(tmp_path / "si.state")[0]
        assert any(
            not torch.equal(value, start[key]) for key, value in state.items() if key.startswith("student.")
        )
        assert torch.isfinite(state["log"]).all()
    # guidance reaches the teacher: without it another student comes out
    plain = jobs(
        "plain",
        {key: value for key, value in CORRECTED.items() if key != "guidance_scale"},
        tmp_path / "si.safetensors",
    )
    run.advance(plain, "mark", 4)
    assert not torch.equal(load_checkpoint(plain.state)[0]["log"], state["log"])


def test_settings_of_guidance_and_discriminator_are_checked():
    with pytest.raises(ValueError, match="scale of a teacher's velocity"):
        Method.model_validate(SI | {"guidance_scale": 1.5})
    adversary = {"weight": 0.1, "lr": 1e-3, "r1": 0.0}
    for own in ({}, {"head": 8, "channels": [8, 8]}):
        with pytest.raises(ValueError, match="either `channels` or"):
            correction = {"threshold": 0.1, "truncation": 0.1, "adversarial": adversary | own}
            method = {"label": "x", "steps": 1, "teacher": "si", "start": "teacher"}
            Method.model_validate(method | {"self_correction": correction})


def test_a_text_is_told_to_every_chunk_of_samples(monkeypatch):
    from fewstep.evaluation import sample

    monkeypatch.setattr(sample, "POINTS", 2)
    texts, x0 = conditions(5), torch.randn(5, 2)
    drawn = sample.sample(LINE, "euler", x0, 1, conditions=texts)
    assert torch.allclose(drawn.points, x0 + texts.hidden.mean((1, 2))[:, None] * x0)
    assert drawn.nfe == 1
