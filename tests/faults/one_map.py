"""Faults in what compares the field: the Eulerian family, the error of a consistency model, counted calls."""

from . import Fault, within

# between the unit of a claim and its cells
CELLS = "\n      statistic: {kind: difference, cells: ["

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
        "evaluation/consistency_error.py",
        "consistency_error",
        ("trained rows by all metrics", "trained[trained.metric == KL]", "trained"),
        (
            "one step in the place of re-noised ones",
            '"CM, renoised-1": "consistency model, re-noised (CM)"',
            '"CM": "consistency model, re-noised (CM)"',
        ),
    ),
    *within(
        "evaluation/plots/curves.py",
        "consistency_error",
        (
            "one metric in all panels",
            "_against_calls(axis, table, metric) for axis",
            "_against_calls(axis, table, metrics[0]) for axis",
        ),
        ("a legend over the next panel", '{"wspace": 1.0}', '{"wspace": 0.1}'),
    ),
    *within(
        "evaluation/lagrangian_eulerian.py",
        "lagrangian_eulerian",
        (
            "a method that stops something else",
            '"EMD": ("Eulerian", "nothing"',
            '"EMD": ("Eulerian", "all but v"',
        ),
        ("another number of steps", "CALLS = (1, 2)", "CALLS = (1, 4)"),
        (
            "the FIDs of two data sets in one",
            "return f\"{TABLES[experiment]}, {experiment.removeprefix('zoo-')}\"",
            "return TABLES[experiment]",
        ),
    ),
    *within(
        "evaluation/claims.yaml",
        "lagrangian_eulerian",
        (
            "a claim turned round",
            f"nats{CELLS}[lmd, N], [ayf-lmd, N]]",
            f"nats{CELLS}[ayf-lmd, N], [lmd, N]]",
        ),
        (
            "normalised for stopped",
            f"nats{CELLS}[consistency, N], [ayf-lmd, N]]",
            f"nats{CELLS}[ayf-emd, N], [ayf-lmd, N]]",
        ),
        (
            "a claim on images turned round",
            f"FID{CELLS}[consistency, N], [ayf-lmd, N]]",
            f"FID{CELLS}[ayf-lmd, N], [consistency, N]]",
        ),
        ("no claims on latents", "[zoo-digits, zoo-latents]", "[zoo-digits]"),
    ),
    *within(
        "evaluation/claims.yaml",
        "consistency_error",
        ("re-noising said to help", "- [cm-renoised-1, N]\n", "- [cm-renoised-1, 2]\n"),
        ("the best without eight steps", "[cm-renoised-1, 8], ", ""),
        ("more jumps said to hurt", "[[lmd, 2], [lmd, N]]", "[[lmd, N], [lmd, 2]]"),
        (
            "two maps for two samplers",
            "[[consistency-renoised-1, N], [consistency, N]]",
            "[[cm-renoised-1, N], [consistency, N]]",
        ),
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
