"""Faults in what compares the field: the Eulerian family, the error of a consistency model, counted calls."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "evaluation/eulerian_family.py",
        "other_papers",
        ("the gap left out of the family", "- span * (in_time", "- (in_time"),
        (
            "the diagonal not stopped where all is",
            "in_time.detach() if stop == ALL",
            "in_time.detach() if False",
        ),
        ("direction and target exchanged", "zero, zero, chosen[direction])", "zero, zero, chosen[target])"),
        ("half a gradient", "(2 * found * slopes)", "(found * slopes)"),
        ("an error of the sum", "squares.std() / count", "squares.std()"),
    ),
    *within(
        "evaluation/consistency_error.py",
        "other_papers",
        ("renoised to no noise", "np.hypot(t * end, 1 - t)", "t * end"),
        ("an error that does not vanish", "world.e * (1 - s)", "world.e"),
        ("a jump's error whatever its length", "world.e * (t - s)", "world.e"),
        ("not in units of the error", "w2(world, n) / world.e", "w2(world, n)"),
    ),
    *within(
        "evaluation/equivalences/check.py",
        "other_papers",
        ("gradients not looked at", "max(worst[0], worst[1] or 0.0) < EXACT", "True"),
        ("a difference said to be none", "if entry.beyond else", "if not entry.beyond else"),
    ),
    *within(
        "evaluation/equivalences/formulas.py",
        "other_papers",
        ("the term beyond left out", 'semi") - beyond', 'semi")'),
        ("no normalisation", "keepdim=True) + c)", "keepdim=True))"),
        (
            "the teacher's step too long",
            "ddim(denoiser(teacher(s, s, x), s, x), s, half, x)",
            "ddim(denoiser(teacher(s, s, x), s, x), s, 2 * half, x)",
        ),
    ),
    *within(
        "training/calls.py",
        "zoo",
        ("forward mode counted twice", "if not self.inside:", "if True:"),
        ("calls counted, and not samples", "self.forward_mode += len(x)", "self.forward_mode += 1"),
        ("the teacher not counted", "(*state.networks.values(), teacher)", "state.networks.values()"),
    ),
    *within(
        "evaluation/training_cost.py",
        "zoo",
        ("the norm at the beginning", "log[NORM][-last:]", "log[NORM][:last]"),
        ("a teacher of those that have none", "float(own.teacher is not None)", "float(own.teacher is None)"),
    ),
    *within(
        "pipeline/timings.py",
        "zoo",
        (
            "one file of times for both",
            'name = f"{folder}-timings.csv" if folder else "timings.csv"',
            'name = "timings.csv"',
        ),
    ),
    *within(
        "pipeline/report.py",
        "zoo",
        (
            "the zoo's list is the main one",
            'replace_files(folder, files, f"{beside}.json")',
            "replace_files(folder, files)",
        ),
        ("another revision not said", "if beside and mixture(", "if False and mixture("),
    ),
    *within("pipeline/stages.py", "zoo", ("a zoo of tier paper", 'if tier != "paper" and path', "if path")),
]
