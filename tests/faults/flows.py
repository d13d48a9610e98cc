"""Faults in flows/: interpolants, flow maps, samplers, exact worlds."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "flows/flow_map.py",
        "jumps_and_pairs",
        (
            "divided by what is left at t",
            "per_sample((1 - s).clamp(min=LEAST_REST), x)\n        return v",
            "per_sample((1 - t).clamp(min=LEAST_REST), x)\n        return v",
        ),
        ("a rest that shrinks for ever", "torch.where(1 - s > LEAST_REST, ds, torch.zeros_like(ds))", "ds"),
        ("a rest without a derivative", "(dg - dx + per_sample(shrinks, x) * v) / rest", "(dg - dx) / rest"),
    ),
    *within(
        "flows/flow_map.py",
        "consistency_family",
        (
            "Heun's second velocity at s",
            "(first + self.base.velocity(t, x",
            "(first + self.base.velocity(s, x",
        ),
    ),
    *within(
        "flows/interpolants.py",
        "consistency_family",
        ("a part at the end of training", "self.interpolant, z, self.progress)", "self.interpolant, z)"),
    ),
    *within(
        "flows/interpolants.py",
        "interpolants",
        (
            "noise and data exchanged",
            "Coefficients(1 - t, t, zero, -one, one, zero)",
            "Coefficients(t, 1 - t, zero, one, -one, zero)",
        ),
        ("sign of the cosine's derivative", "-sin * (pi / 2)", "sin * (pi / 2)"),
        ("gamma' twice too large", "torch.sin(2 * pi * t) * (pi / 2)", "torch.sin(2 * pi * t) * pi"),
        ("gamma not zero at 1", "torch.sin(pi * t) ** 2 / 2,", "torch.sin(pi * t / 2) ** 2 / 2,"),
        ("gamma' z left out", "velocity = velocity + per_sample(c.d_gamma, z) * z", "pass"),
        (
            "x0 and x1 exchanged in a batch",
            "at(time, self.x0, self.x1, self.z)",
            "at(time, self.x1, self.x0, self.z)",
        ),
        ("a part keeps all of g", "self.t[cut], self.g[cut])", "self.t[cut], self.g)"),
    ),
    *within(
        "flows/flow_map.py",
        "flow_maps",
        (
            "jump backwards",
            "return x + per_sample(t - s, x) * self.average",
            "return x + per_sample(s - t, x) * self.average",
        ),
        ("sign of (dt - ds) v", "per_sample(dt - ds, x) * v", "per_sample(ds - dt, x) * v"),
        ("(t - s) dv left out", " * v + span * dv)", " * v)"),
        ("dx left out", "Jump(x + span * v, dx + per_sample", "Jump(x + span * v, per_sample"),
        (
            "d/ds and d/dt exchanged",
            "return self.jump_following(s, t, x, torch.zeros_like(x))",
            "return self.jump_dt(s, t, x)",
        ),
        (
            "Eulerian derivative without transport",
            "zeros_like(t), dx)\n\n\nclass",
            "zeros_like(t), 0 * dx)\n\n\nclass",
        ),
        (
            "velocity off the diagonal",
            "return self.average_velocity(t, t, x)",
            "return self.average_velocity(0 * t, t, x)",
        ),
        (
            "Euler step with the velocity of its end",
            "return self.base.velocity(s, x)",
            "return self.base.velocity(t, x)",
        ),
    ),
    *within(
        "flows/exact/gaussian.py",
        "worlds",
        ("stretch without its root", "self._spectrum(start)).sqrt()", "self._spectrum(start))"),
        ("beta for beta^2", "b**2 * self.ratio", "b * self.ratio"),
        ("gamma left out of the velocity", " + g * dg * self.noise", ""),
        ("latent noise in the wrong basis", "self.noise = scale.square()", "self.noise = scale"),
        ("basis of C0 alone", "eigh(c0 + 0.7320508 * c1)", "eigh(c0)"),
        ("root transposed", "self.w = root.T @", "self.w = root @"),
        (
            "samples with the other factor",
            "torch.linalg.cholesky(self.c1).T",
            "torch.linalg.cholesky(self.c1)",
        ),
    ),
    *within(
        "flows/exact/mixture.py",
        "worlds",
        ("posterior without the weights", "log = self.weights.log() - centred", "log = -centred"),
        ("posterior of one dimension", "x.shape[1] / 2 * variance.log()", "variance.log() / 2"),
        ("sign of the means' drift", "db[..., None] * self.mu +", "-db[..., None] * self.mu +"),
    ),
    *within(
        "flows/exact/checkerboard.py",
        "checkerboard",
        ("the other eight squares", "if (i + j) % 2 == 0", "if (i + j) % 2 == 1"),
        ("upper tail not reflected", "torch.where(flip, -mean, mean)", "mean"),
        (
            "one axis in the posterior",
            "(mass[:, 0, columns] + mass[:, 1, rows]).softmax",
            "(mass[:, 0, columns]).softmax",
        ),
        ("noise not scaled", "x.double() - self.scale * noise", "x.double() - noise"),
        ("Euler for the midpoint", "self.velocity(now + step / 2, half)", "self.velocity(now, x)"),
    ),
    *within(
        "flows/samplers.py",
        "samplers",
        ("one step too many", "for k in range(steps))", "for k in range(steps + 1))"),
        ("fresh noise of deviation 1", "fresh = scale * torch.randn", "fresh = torch.randn"),
        ("Heun without its second slope", "(first + second)", "(first + first)"),
        ("Heun's second slope at s", "counted.velocity(_full(x, t),", "counted.velocity(_full(x, s),"),
        (
            "Euler with the slope of its end",
            "(t - s) * counted.velocity(_full(x, s), x)",
            "(t - s) * counted.velocity(_full(x, t), x)",
        ),
        ("jumps not counted", "self.calls += 1\n        return self.inner.jump", "return self.inner.jump"),
        ("past the end of time", 'options={"step_t": ends[1:]}', "options=None"),
    ),
    *within(
        "flows/times.py",
        "times",
        ("uniform gap", "1 - torch.sqrt(1 - uniform[0] * (2 * tau - tau**2))", "tau * uniform[0]"),
        ("start not scaled to the gap", "s = uniform[1] * (1 - gap)", "s = uniform[1] * (1 - tau)"),
        ("forwards only", "torch.where(swap, t, s), torch.where(swap, s, t)", "s, t"),
        ("a stage lost", "int(progress * (self.doublings + 1))", "int(progress * self.doublings)"),
        ("annealed too slowly", "* progress / self.anneal", "* progress * self.anneal"),
        ("noise strip forgotten", "(uniform[0]), tau * uniform[0]", "(uniform[0]), uniform[0]"),
    ),
    *within(
        "flows/exact/straight.py",
        "scflow",
        ("the shift left out at the start", "(x - per_sample(t, x) * self.m)", "x"),
        ("A not transposed", "x0 @ self.a.T + self.m", "x0 @ self.a + self.m"),
    ),
]
