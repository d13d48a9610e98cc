"""The flow map in one file is that of the library: same losses, same data, and it runs as it says."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from fewstep.flows.exact import checkerboard
from fewstep.flows.flow_map import FlowMap
from fewstep.flows.interpolants import Batch
from fewstep.objectives.lmd import lmd
from fewstep.objectives.si import si


@pytest.fixture(scope="module")
def example(root):
    path = root / "examples" / "flow_map_in_one_file.py"
    spec = importlib.util.spec_from_file_location("flow_map_in_one_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Wrapped(FlowMap):
    """The example's network as a flow map of the library."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def average_velocity(self, s, t, x):
        return self.network.v(s, t, x)


@pytest.fixture(scope="module")
def trained(example):
    """A teacher and a student after a few steps: at the start every loss is that of the identity."""
    torch.manual_seed(0)

    def diagonal(model, x0, x1, generator):
        return example.teacher_loss(model, x0, x1, torch.rand(len(x0), generator=generator))

    teacher = example.train(example.FlowMap(32, 2), diagonal, 150, 64, seed=0)

    def lagrangian(model, x0, x1, generator):
        return example.lmd_loss(model, teacher, x0, x1, *example.times(len(x0), generator))

    return teacher, example.train(example.FlowMap(32, 2), lagrangian, 150, 64, seed=0)


def test_its_losses_are_the_librarys(example, trained):
    teacher, student = trained
    generator = torch.Generator().manual_seed(3)
    x0, x1 = torch.randn(256, 2, generator=generator), example.checkerboard(256, generator)
    s, t = example.times(256, generator)
    assert ((s >= 0) & (s <= t) & (t <= 1)).all() and (s == 0).float().mean() == 0.5
    batch = Batch(x0, x1, s, t, g=torch.zeros(256))
    ours = lmd(Wrapped(student), batch, teacher=Wrapped(teacher))
    theirs = example.lmd_loss(student, teacher, x0, x1, s, t)
    assert ours.mean() > 1e-4
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    ours, theirs = si(Wrapped(teacher), batch), example.teacher_loss(teacher, x0, x1, t)
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6)


def test_its_data_and_noise_are_the_librarys(example):
    points = example.checkerboard(20_000, torch.Generator().manual_seed(0))
    squares = ((points + 1) * 2).floor().long()
    assert {tuple(square.tolist()) for square in squares.unique(dim=0)} == set(checkerboard.FILLED)
    assert example.SCALE == checkerboard.DATA_SCALE


def test_its_kl_is_zero_for_a_perfect_histogram_and_log_two_for_half_of_the_squares(example):
    side = (torch.arange(example.BINS) + 0.5) * 2 / example.BINS - 1
    grid = torch.cartesian_prod(side, side)
    square = ((grid + 1) * 2).floor().long().sum(1)
    filled = grid[square % 2 == 0].repeat(50, 1)
    assert example.kl(filled) == pytest.approx(0, abs=1e-12)
    # half of the mass outside of the squares leaves half of the density inside
    assert example.kl(torch.cat([filled, filled + 5])) == pytest.approx(torch.tensor(2.0).log().item())


def test_it_runs_alone_and_imports_torch_and_nothing_else(root, tmp_path):
    path = root / "examples" / "flow_map_in_one_file.py"
    assert "fewstep" not in path.read_text(encoding="utf-8")
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150
    words = [sys.executable, str(path), "--steps", "20", "--batch", "32"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "student,  1 network call" in done.stdout and "the data themselves          KL 0.00" in done.stdout
