"""What a sample counts in a step of terms, and exact resumption of all a method can say besides its terms."""

from __future__ import annotations

import pytest
import torch

from fewstep.networks.loss_weight import LossWeight
from fewstep.settings.training import Method, Term
from fewstep.storage.checkpoint import CheckpointError
from fewstep.training.job import Job, advance
from fewstep.training.loops import terms, weighting
from fewstep.training.processes import Processes

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

    def job_of(**own: object) -> terms.Loop:
        return loop_of(job(**own))

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
