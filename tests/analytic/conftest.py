from __future__ import annotations

import warnings
from copy import deepcopy

import pytest
import torch

from .exact import WORLDS, gaussian, network_batch, random_network

# The first forward-mode pass of a process makes torch load scripts of its own, of a kind that it deprecates.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))


@pytest.fixture(params=WORLDS, ids="-".join)
def world(request):
    """A Gaussian flow in three dimensions, for each interpolant and kind of covariances."""
    return gaussian(*request.param)


@pytest.fixture
def student():
    """A small network with parameters that are not zero, float64."""
    return random_network()


@pytest.fixture
def frozen(student):
    """The student's copy: a teacher that equals it and shares no parameter."""
    return deepcopy(student).requires_grad_(False)


@pytest.fixture
def teacher():
    """Another network of the same kind."""
    return random_network(seed=6).requires_grad_(False)


@pytest.fixture
def batch():
    return network_batch()
