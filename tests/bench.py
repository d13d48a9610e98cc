"""What a training step costs: flow matching against LMD, and both against a jitted JAX step.

    make bench

The same network (4 x 256, SiLU, the tables' features), batch (1,024) and optimiser (Adam) everywhere; torch
and JAX take turns in one process pinned to one core, then to two, and medians are printed. The tables' own
network (4 x 128, batch 512) follows, with the optimiser it uses, and a two-level UNet on 8 x 8 images (batch
128), once with its dual numbers and once with torch.func.jvp in their place. JAX comes from the optional
extra `bench`; without it only torch is timed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from fewstep import networks, objectives
from fewstep.flows.flow_map import FlowMap, NetworkFlowMap
from fewstep.flows.interpolants import Batch
from fewstep.training import optimisers

FEATURES = {"frequencies": [1, 2, 4], "time_frequencies": [1]}
ROUNDS, STEPS = 9, 12
METHODS = {"si": {}, "lmd": {"gradient": "full"}, "lmd, semigradient": {"gradient": "semi"}}


def network(width: int) -> FlowMap:
    torch.manual_seed(0)
    flow_map = networks.build(
        {"kind": "mlp", "width": width, "depth": 4, "activation": "silu", **FEATURES}, (2,)
    )
    torch.nn.init.normal_(flow_map.network.out.weight, std=0.05)
    return flow_map


class General(NetworkFlowMap):
    """The same flow map without the network's own forward-mode pass."""

    def average_velocity_pushforward(self, *at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return FlowMap.average_velocity_pushforward(self, *at)


def unet() -> FlowMap:
    torch.manual_seed(0)
    settings = {
        "channels": [16, 32],
        "layers": 1,
        "attention": [False, False],
        "groups": 8,
        "time_scale": 10.0,
    }
    flow_map = networks.build({"kind": "unet", **settings}, (1, 8, 8))
    torch.nn.init.normal_(flow_map.network.model.conv_out.weight, std=0.05)
    return flow_map


def torch_step(method: str, width: int, batch: int, optimiser: str) -> Callable[[], None]:
    """One optimisation step of the perceptron on a fixed batch."""
    return step_of(method, network(width), network(width), batch, (2,), optimiser)


def step_of(
    method: str, student: FlowMap, teacher: FlowMap, batch: int, shape: tuple[int, ...], optimiser: str
) -> Callable[[], None]:
    """One optimisation step of `student` on a fixed batch of points of `shape`."""
    teacher.requires_grad_(False)
    draws = Batch(torch.randn(batch, *shape), torch.rand(batch, *shape), *torch.rand(3, batch))
    residual = objectives.bind(method.partition(",")[0], METHODS[method], teacher)
    update = optimisers.build(optimiser, student.parameters(), 1e-3)

    def step() -> None:
        update.zero_grad(set_to_none=True)
        residual(student, draws).mean().backward()
        update.step()

    return step


def jax_step(method: str, width: int, batch: int) -> Callable[[], None]:
    """The same step, written as JAX is: jvp, grad and one jit around everything."""
    import jax
    import jax.numpy as jnp
    import optax

    weights = [
        (jnp.asarray(m.weight.detach().numpy().T), jnp.asarray(m.bias.detach().numpy()))
        for m in (*network(width).network.layers, network(width).network.out)
    ]
    waves = jnp.asarray(network(width).network.waves.numpy())
    shift, scale = (jnp.asarray(getattr(network(width).network, k).numpy()) for k in ("shift", "scale"))

    def v(weights, s, t, x):
        u = jnp.concatenate([x, s[:, None], t[:, None]], 1)
        h = jnp.concatenate([u * scale + shift, jnp.sin(u @ waves), jnp.cos(u @ waves)], 1)
        for w, b in weights[:-1]:
            h = jax.nn.silu(h @ w + b)
        return h @ weights[-1][0] + weights[-1][1]

    def loss(weights, teacher, x0, x1, s, t):
        if method == "si":
            return (
                jnp.square(v(weights, t, t, (1 - t)[:, None] * x0 + t[:, None] * x1) - (x1 - x0))
                .sum(1)
                .mean()
            )
        start = (1 - s)[:, None] * x0 + s[:, None] * x1
        point, speed = jax.jvp(
            lambda end: start + (end - s)[:, None] * v(weights, s, end, start), (t,), (jnp.ones_like(t),)
        )
        where = point if METHODS[method]["gradient"] == "full" else jax.lax.stop_gradient(point)
        return jnp.square(speed - v(teacher, t, t, where)).sum(1).mean()

    update = optax.adam(1e-3, b2=0.99)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights, state, teacher, *draws):
        change, state = update.update(jax.grad(loss)(weights, teacher, *draws), state, weights)
        return optax.apply_updates(weights, change), state

    draws = [jnp.asarray(torch.randn(batch, 2).numpy()) for _ in range(2)] + [
        jnp.asarray(torch.rand(batch).numpy()) for _ in range(2)
    ]
    teacher = jax.tree.map(jnp.copy, weights)
    held = {"weights": weights, "state": update.init(weights)}

    def run() -> None:
        held["weights"], held["state"] = step(held["weights"], held["state"], teacher, *draws)
        held["weights"][-1][1].block_until_ready()

    return run


def medians(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Milliseconds a step; all take turns, so that a noisy moment hits each of them."""
    seen: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(5):
            step()
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            seen[name].append((time.perf_counter() - start) / STEPS * 1e3)
    return {name: statistics.median(times) for name, times in seen.items()}


def bench(cores: int) -> None:
    torch.set_num_threads(cores)
    steps: dict[str, Callable[[], None]] = {}
    try:
        import jax  # noqa: F401
        import optax  # noqa: F401

        backends = ("torch", "jax")
    except ImportError:
        backends = ("torch",)
        print("JAX is not installed (pip install -e '.[bench]'): timing torch alone")
    for method in METHODS:
        for backend in backends:
            steps[f"{backend} {method}"] = (
                torch_step(method, 256, 1024, "adam") if backend == "torch" else jax_step(method, 256, 1024)
            )
    for method in METHODS:
        steps[f"tables {method}"] = torch_step(method, 128, 512, "soap")
    convolutions: dict[str, Callable[[], None]] = {}
    for method in METHODS:
        convolutions[f"unet {method}"] = step_of(method, unet(), unet(), 128, (1, 8, 8), "adam")
        convolutions[f"unet by jvp {method}"] = step_of(
            method, General(unet().network), unet(), 128, (1, 8, 8), "adam"
        )
    # apart: a UNet between them would leave the caches and the heap in its own order
    ms = medians(steps) | medians(convolutions)
    print(f"\n{cores} core(s), median of {ROUNDS} rounds of {STEPS} steps")
    print(
        f"{'4 x 256, batch 1,024, Adam':34}"
        + "".join(f"{b:>10}" for b in backends)
        + ("   torch / jax" if len(backends) == 2 else "")
    )
    for method in METHODS:
        row = [ms[f"{b} {method}"] for b in backends]
        print(
            f"{method:34}"
            + "".join(f"{x:8.2f}ms" for x in row)
            + (f"{row[0] / row[1]:14.2f}" if len(row) == 2 else "")
        )
    for b in backends:
        print(
            f"  {b}: LMD costs {ms[f'{b} lmd'] / ms[f'{b} si']:.2f} flow-matching steps, "
            f"its semigradient {ms[f'{b} lmd, semigradient'] / ms[f'{b} si']:.2f}"
        )
    titles = {
        "tables": "4 x 128, batch 512, SOAP (the tables)",
        "unet": "UNet (16, 32), 8 x 8, batch 128, Adam",
        "unet by jvp": "the same by torch.func.jvp",
    }
    for kind, title in titles.items():
        print(f"{title}: " + ", ".join(f"{m} {ms[f'{kind} {m}']:.2f} ms" for m in METHODS))
        print(
            f"  LMD costs {ms[f'{kind} lmd'] / ms[f'{kind} si']:.2f} flow-matching steps, "
            f"its semigradient {ms[f'{kind} lmd, semigradient'] / ms[f'{kind} si']:.2f}"
        )


def main() -> None:
    if len(sys.argv) == 2:
        bench(int(sys.argv[1]))
        return
    there = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )
    for cores in (1, 2)[: len(there)]:
        # a process of its own: both libraries size their thread pools when they start
        pin = (
            f"import os; os.sched_setaffinity(0, {there[:cores]!r}) "
            "if hasattr(os, 'sched_setaffinity') else None; "
        )
        code = (
            pin
            + f"import sys, runpy; sys.argv = [{__file__!r}, '{cores}']; "
            + f"runpy.run_path({__file__!r}, run_name='__main__')"
        )
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": str(cores), "OPENBLAS_NUM_THREADS": str(cores)},
        )


if __name__ == "__main__":
    main()
