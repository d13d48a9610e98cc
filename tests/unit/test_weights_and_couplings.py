"""What a step of terms weighs and couples: weights a sample, learned ones, couplings, a weak teacher."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fewstep import objectives
from fewstep.flows.conditioning import Autoguided, Conditions
from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.flows.interpolants import Batch
from fewstep.networks.loss_weight import LossWeight
from fewstep.settings.experiment import ExperimentSettings
from fewstep.settings.laws import GeneratorCoupling
from fewstep.settings.training import Method, Term
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint
from fewstep.training import train
from fewstep.training.job import Job, advance
from fewstep.training.loops import couplings, terms, weighting
from fewstep.training.processes import Processes
from fewstep.training.weights import load_log, methods_of

FMM = "fmm-checkerboard"
PLAIN = [{"objective": "si", "times": {"region": "diagonal"}}]
TWO = [
    {"objective": "si", "share": 0.5, "weight": 2.0, "times": {"region": "diagonal"}},
    {"objective": "meanflow", "share": 0.5, "times": {"region": "forward"}},
]
ENCODER, GENERATOR = {"kind": "encoder", "weight": 3.0}, {"kind": "generator", "share": 0.5}
ADAPTIVE = [term | {"adaptive": {"power": 0.75}} for term in TWO]
EXTRAS = {
    "adaptive": {"terms": ADAPTIVE},
    "learned weight": {"learned_weight": True},
    "generator": {"coupling": GENERATOR},
    "encoder": {"coupling": ENCODER},
    "encoder and learned weight": {"coupling": ENCODER, "learned_weight": True},
}


@pytest.fixture
def job(smoke, tmp_path):
    """job(name, **settings of its method): eight steps of a small network on the checkerboard."""
    own = smoke.experiment(FMM)
    network = own.training.network.model_copy(update={"width": 8})
    shared = own.training.model_copy(update={"network": network, "batch": 16})

    def make(name: str = "run", files=(None, None), optimiser: str = "adam", **settings: object) -> Job:
        chosen = shared.optimiser.model_copy(update={"kind": optimiser, "weight_decay": None})
        training = shared.model_copy(update={"optimiser": chosen})
        method = Method.model_validate({"label": "SI", "steps": 8, "terms": TWO} | settings)
        return Job(training, method, 3, tmp_path / f"{name}.safetensors", files[0], weak=files[1])

    return make


def loop_of(job: Job, processes: Processes = Processes()) -> terms.Loop:
    state = terms.start(job, None)
    return terms.Loop(job, state, None, processes)


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("optimiser", ["adam", "soap"])
def test_a_run_in_pieces_is_the_run_in_one_go(job, extra, optimiser):
    own = EXTRAS[extra] | {"optimiser": optimiser}
    whole, pieces = job("whole", **own), job("pieces", **own)
    advance(whole, "mark", 8)
    for until in (1, 3, 8):
        advance(pieces, "mark", until)
    assert whole.state.read_bytes() == pieces.state.read_bytes()
    other = job("whole", terms=PLAIN, optimiser=optimiser)
    if extra not in ("adaptive", "generator"):
        with pytest.raises(CheckpointError, match="is no state of this training: .* foreign"):
            advance(other, "mark", 8)


def test_what_is_not_asked_for_is_not_in_the_state(job):
    plain = terms.start(job(), None)
    assert set(plain.networks) == {"student", "ema"} and plain.columns == ("loss", "gradient_norm")
    assert set(terms.start(job(learned_weight=True), None).networks) == {"student", "ema", "loss_weight"}
    coupled = terms.start(job(coupling=ENCODER), None)
    assert set(coupled.networks) == {"student", "ema", "encoder"} and coupled.columns[2:] == ("divergence",)
    assert set(terms.start(job(coupling=GENERATOR), None).networks) == {"student", "ema"}


def test_settings_that_are_not_used_leave_no_trace():
    dumped = Method.model_validate({"label": "SI", "steps": 8, "terms": TWO}).model_dump()
    assert not {"coupling", "learned_weight", "autoguidance"} & set(dumped)
    assert "adaptive" not in dumped["terms"][0]
    assert Term.model_validate(ADAPTIVE[0]).model_dump()["adaptive"] == {"power": 0.75, "offset": 0.01}


@pytest.mark.parametrize(
    "own, says",
    [
        ({"teacher": "si", "coupling": GENERATOR}, "`coupling` is of the noise and data of methods without"),
        ({"terms": ADAPTIVE, "learned_weight": True}, "`learned_weight` and a term's `adaptive` weigh the"),
        ({"autoguidance": {"weak": "small", "scale": 2.0}}, "`autoguidance` leads a teacher away"),
        (
            {"teacher": "si", "guidance_scale": 2.0, "autoguidance": {"weak": "small", "scale": 2.0}},
            "by `autoguidance` or by `guidance_scale`, not by both",
        ),
        (
            {"terms": [PLAIN[0] | {"times": {"region": "forward", "law": "dyadic", "mean": 0.0}}]},
            "`mean` is of the law 'logit-normal' and 'gap', not of 'dyadic'",
        ),
        (
            {"terms": [PLAIN[0] | {"times": {"region": "forward", "law": "gap", "deviation": 1.0}}]},
            "the law 'gap' needs `mean`",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(own, says):
    with pytest.raises(ValueError, match=says):
        Method.model_validate({"label": "SI", "steps": 8, "terms": TWO} | own)


# Weights a sample ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_an_adaptive_weight_divides_by_a_power_that_carries_no_gradient(power):
    r = torch.tensor([0.0, 0.3, 4.0, 100.0], dtype=torch.float64, requires_grad=True)
    found = weighting.adaptive(r, power, 0.01)
    torch.testing.assert_close(found, r / (r.detach() + 0.01) ** power)
    (slope,) = torch.autograd.grad(found.sum(), r)
    torch.testing.assert_close(slope, (r.detach() + 0.01) ** -power)
    if power == 1:
        (logarithm,) = torch.autograd.grad(torch.log(r + 0.01).sum(), r)
        torch.testing.assert_close(slope, logarithm)


def gradients(loop: terms.Loop) -> torch.Tensor:
    """The student's gradient of the loop's next step, which is not clipped."""
    loop.step()
    return torch.cat([p.grad.flatten() for p in loop.state.weights["student"]])


def test_a_terms_weight_and_its_adaptive_weight_multiply(job, monkeypatch):
    """At power 0 nothing changes, bit for bit; a large offset at power 1 divides all by it."""
    job_of = lambda **own: loop_of(job(**own))  # noqa: E731
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.zeros(()))
    plain = gradients(job_of())
    none = [term | {"adaptive": {"power": 0.0}} for term in TWO]
    assert torch.equal(gradients(job_of(terms=none)), plain)
    huge = [term | {"adaptive": {"power": 1.0, "offset": 1e5}} for term in TWO]
    torch.testing.assert_close(gradients(job_of(terms=huge)) * 1e5, plain, rtol=1e-3, atol=1e-6)
    one = [TWO[0] | {"adaptive": {"power": 1.0, "offset": 1e6}}, TWO[1]]
    found, single = gradients(job_of(terms=one)), [TWO[0] | {"weight": 1e-9}, TWO[1]]
    torch.testing.assert_close(found, gradients(job_of(terms=single)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("extra", ["adaptive", "learned weight"])
def test_the_logged_loss_is_that_of_the_residuals_without_the_weight_of_a_sample(job, extra):
    plain, own = loop_of(job()), loop_of(job(**EXTRAS[extra]))
    plain.step()
    own.step()
    assert torch.equal(own.state.log[0, 0], plain.state.log[0, 0])
    for _ in range(3):
        plain.step()
        own.step()
    assert not torch.equal(own.state.log[3, 0], plain.state.log[3, 0]), "the student went another way"


@pytest.mark.parametrize("constant", [0.02, 7.0])
def test_the_learned_weight_of_a_constant_loss_is_its_logarithm(constant):
    w = torch.zeros(5, requires_grad=True)
    loss = torch.full((5,), constant)
    optimiser = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = weighting.learned(loss, w).sum()
        value.backward()
        return value

    optimiser.step(closure)
    torch.testing.assert_close(w.detach(), loss.log(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(weighting.learned(loss, w).detach(), 1 + loss.log(), rtol=1e-3, atol=1e-3)


def test_the_weights_network_learns_the_logarithm_of_the_mean_at_every_time():
    """Of a noisy loss of mean exp(2 s - t) it learns 2 s - t."""
    torch.manual_seed(0)
    network, s, t = LossWeight(), torch.rand(512), torch.rand(512)
    assert not network(s, t).any(), "it starts as no weight"
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(300):
        s, t, noise = torch.rand(3, 512)
        optimiser.zero_grad()
        weighting.learned(2 * noise * torch.exp(2 * s - t), network(s, t)).mean().backward()
        optimiser.step()
    error = network(s, t).detach() - (2 * s - t)
    assert float(error.square().mean().sqrt()) < 0.15


def test_the_learned_weight_weighs_the_student_and_learns_by_the_same_settings(job, monkeypatch):
    loop = loop_of(job(learned_weight=True))
    before = [p.clone() for p in loop.state.weights["loss_weight"]]
    rates = []
    own = loop.state.optimisers["loss_weight"]
    monkeypatch.setattr(own, "step", lambda step=own.step: rates.append(own.param_groups[0]["lr"]) or step())
    loop.step()
    student = loop.state.optimisers["student"].param_groups[0]["lr"]
    assert rates == [student] and rates[0] > 0
    after = loop.state.weights["loss_weight"]
    assert any(not torch.equal(a, b) for a, b in zip(after, before))
    # at w = 1 the student's gradient is that without it, divided by e
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.zeros(()))
    heavy, plain = loop_of(job(learned_weight=True)), loop_of(job())
    with torch.no_grad():
        heavy.state.weights["loss_weight"][-1].fill_(1.0)
    ratio = gradients(plain).norm() / gradients(heavy).norm()
    assert float(ratio) == pytest.approx(torch.e, rel=1e-4)


# Couplings -------------------------------------------------------------------------------------------------


def watched(loop: terms.Loop, monkeypatch) -> list:
    """The batches that the first term's objective is given."""
    seen, inner = [], []
    loop._bind()
    inner += loop.residuals
    loop.residuals = [
        lambda student, batch, f=residual: seen.append(batch) or f(student, batch) for residual in inner
    ]
    return seen


def test_a_generator_changes_the_data_of_its_share_and_nothing_else(job, monkeypatch):
    plain, own = loop_of(job()), loop_of(job(coupling=GENERATOR))
    for loop in (plain, own):
        # an averaged map that moves its points
        with torch.no_grad():
            for p in loop.state.weights["ema"]:
                p.fill_(0.05)
    expected, found = watched(plain, monkeypatch), watched(own, monkeypatch)
    plain.step()
    own.step()
    assert len(found) == 2
    for a, b in zip(expected, found):
        assert all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("x0", "s", "t", "g"))
        changed = (a.x1 != b.x1).any(1)
        assert changed.tolist() == [False, True] * 4
        ends = own_jump(plain, a)
        torch.testing.assert_close(b.x1[changed], ends[changed], rtol=1e-4, atol=1e-5)


def own_jump(loop: terms.Loop, batch) -> torch.Tensor:
    """X_{s,1}(I_s) of the averaged map as it was before the step."""
    network = loop.job.fresh()
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.05)
        return network.jump(batch.s, torch.ones_like(batch.s), batch.at(batch.s).point)


def test_an_encoder_starts_as_the_independent_coupling_and_then_leaves_it(job, monkeypatch):
    plain, own = loop_of(job()), loop_of(job(coupling=ENCODER))
    expected, found = watched(plain, monkeypatch), watched(own, monkeypatch)
    plain.step()
    own.step()
    assert all(torch.equal(a.x0, b.x0) and torch.equal(a.x1, b.x1) for a, b in zip(expected, found))
    assert torch.equal(plain.state.log[0], own.state.log[0, :2]) and own.state.log[0, 2] == 0
    for _ in range(4):
        plain.step()
        own.step()
    assert not torch.equal(expected[-1].x0, found[-1].x0) and own.state.log[4, 2] > 0


def test_a_dear_divergence_keeps_the_coupling_independent(job):
    """The larger its weight, the smaller the divergence that the encoder ends with."""
    ends = {}
    for weight in (0.0, 1.0, 1e6):
        loop = loop_of(job(steps=60, terms=PLAIN, coupling={"kind": "encoder", "weight": weight}))
        while loop.state.step < 60:
            loop.step()
        ends[weight] = float(loop.state.log[-10:, 2].mean())
    assert ends[0.0] > ends[1.0] > 0
    assert ends[1e6] < 0.05 * ends[1.0] + 1e-3


def test_a_free_encoder_lowers_the_loss(job):
    ends = {}
    for name, coupling in (("independent", None), ("encoder", {"kind": "encoder", "weight": 0.1})):
        loop = loop_of(job(steps=150, terms=PLAIN, coupling=coupling))
        while loop.state.step < 150:
            loop.step()
        ends[name] = float(loop.state.log[-50:, 0].mean())
    assert ends["encoder"] < 0.9 * ends["independent"]


@pytest.mark.parametrize("coupling", [GENERATOR | {"share": 0.3}, ENCODER])
def test_several_processes_couple_what_one_does(job, coupling, monkeypatch):
    whole, seen = loop_of(job(coupling=coupling)), []
    expected = watched(whole, monkeypatch)
    whole.step()
    for rank in range(2):
        # alone, so that its gradients are its own share's
        part = loop_of(job(coupling=coupling), Processes(rank, 2))
        monkeypatch.setattr(Processes, "sum", lambda self, loss, parameters: loss)
        found = watched(part, monkeypatch)
        part.step()
        seen.append(found)
    for k, batch in enumerate(expected):
        assert torch.equal(torch.cat([seen[0][k].x1, seen[1][k].x1]), batch.x1)
        assert torch.equal(torch.cat([seen[0][k].x0, seen[1][k].x0]), batch.x0)


TEACHERLESS = [name for name in objectives.names() if not objectives.needs_teacher(name)]


@pytest.mark.parametrize("objective", TEACHERLESS)
@pytest.mark.parametrize("coupling", [GENERATOR, ENCODER], ids=lambda coupling: coupling["kind"])
def test_couplings_go_with_every_objective_without_a_teacher(job, objective, coupling):
    """One step each; of an encoder's first gradients those of its last layer alone are not zero."""
    half = [{"objective": objective, "share": 0.5, "times": {"region": "forward"}}]
    loop = loop_of(job(terms=[PLAIN[0] | {"share": 0.5}, *half], coupling=coupling))
    with torch.no_grad():
        for p in loop.state.weights["student"]:
            p.add_(0.05)
    loop.step()
    assert loop.state.log[0].isfinite().all()
    if coupling is ENCODER:
        assert loop.state.weights["encoder"][-1].grad.abs().min() > 0


@pytest.mark.parametrize("coupling", [GENERATOR, ENCODER], ids=lambda coupling: coupling["kind"])
def test_couplings_of_images(smoke, tmp_path, coupling):
    training = smoke.experiment("fmm-cifar10").training.model_copy(update={"batch": 4})
    method = {"label": "SI", "steps": 2, "terms": TWO, "coupling": coupling, "learned_weight": True}
    loop = loop_of(Job(training, Method.model_validate(method), 0, tmp_path / "state"))
    for _ in range(2):
        loop.step()
    assert loop.state.log.isfinite().all()


def test_a_generator_reads_the_captions_of_its_own_samples():
    read = []

    class Network(torch.nn.Module):
        def forward(self, s, t, x, conditions):
            read.append(conditions.hidden.flatten().tolist())
            return x

    method = SimpleNamespace(coupling=GeneratorCoupling(kind="generator", share=0.5))
    state = SimpleNamespace(networks={"ema": NetworkFlowMap(Network())})
    captions = Conditions(torch.arange(8.0)[:, None, None], torch.ones(8, 1, dtype=torch.bool))
    batch = Batch(torch.randn(8, 2), torch.randn(8, 2), *torch.rand(3, 8))
    couplings.couple(SimpleNamespace(method=method), state, batch, 0, captions)
    assert read == [[1.0, 3.0, 5.0, 7.0]]


def test_an_encoder_is_not_published(job, tmp_path):
    own = job(coupling=ENCODER, learned_weight=True)
    advance(own, "mark", 8)
    target = tmp_path / "out.safetensors"
    train.publish(own, "mark", target)
    published = load_checkpoint(target)[0]
    assert not [name for name in published if "encoder" in name or "loss_weight" in name]
    assert set(load_log(target)) == {"loss", "gradient_norm", "divergence"}


# A weaker teacher ------------------------------------------------------------------------------------------


@pytest.fixture
def teachers(job, tmp_path):
    """The weights of a trained teacher and of a weaker one."""
    files = []
    for name, steps in (("strong", 8), ("weak", 2)):
        own = job(name, terms=PLAIN, steps=steps)
        advance(own, name, steps)
        files.append(tmp_path / f"{name}-weights.safetensors")
        train.publish(own, name, files[-1])
    return files


GUIDED = {
    "terms": [{"objective": "lmd", "times": {"region": "forward"}}], "teacher": "si",
    "autoguidance": {"weak": "small", "scale": 2.0},
}  # fmt: skip


def test_an_autoguided_student_learns_from_the_combined_velocity(job, teachers, monkeypatch):
    own, seen = job(files=teachers, **GUIDED), []
    inner = terms.Loop.step
    monkeypatch.setattr(terms.Loop, "step", lambda loop: seen.append(loop) or inner(loop))
    advance(own, "mark", 1)
    assert isinstance(seen[0].teacher, Autoguided) and seen[0].teacher.scale == 2.0
    x, t = torch.randn(5, 2), torch.rand(5)
    strong, weak = seen[0].teacher.flow_map.velocity(t, x), seen[0].teacher.weak.velocity(t, x)
    assert not torch.equal(strong, weak)
    torch.testing.assert_close(seen[0].teacher.velocity(t, x), 2 * strong - weak)
    assert seen[0].residuals[0].keywords["teacher"] is seen[0].teacher


def test_the_fingerprint_knows_the_weak_teacher(job, teachers):
    one, other = job(files=teachers, **GUIDED), job(files=[teachers[0], teachers[0]], **GUIDED)
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == job(files=teachers, **GUIDED).fingerprint()


def test_both_teachers_are_trained_before_their_student(smoke):
    raw = smoke.experiment(FMM).model_dump()
    small = raw["methods"]["si"] | {"label": "small", "steps": 5}
    raw["methods"] |= {
        "small": small,
        "lmd": raw["methods"]["lmd"] | {"autoguidance": GUIDED["autoguidance"]},
    }
    raw["sampling"]["steps"]["small"], raw["sampling"]["samplers"]["small"] = [], "euler"
    settings = ExperimentSettings.model_validate(raw)
    assert settings.method("lmd").teachers == ["si", "small"] and settings.method("emd").teachers == ["si"]
    assert methods_of(settings, "teacher") == ["si", "small"]
    assert not {"si", "small"} & set(methods_of(settings, "students"))
    assert set(train._in_order(SimpleNamespace(settings=settings), ["lmd", "small", "si"])[:2]) == {
        "si",
        "small",
    }
