"""Faults in pipeline/: the site, two experiments at a time, and what a killed DVC leaves."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "pipeline/site_pages.py",
        "site_provenance::test_the_arrows_between_stages_are_those_of_dvc",
        (
            "arrows that another says already",
            "if not any(first in before[other] for other in names)",
            "if names",
        ),
        ("a folder is not what is in it", 'or path.startswith(f"{folder}/")', "or path is folder"),
    ),
    *within(
        "pipeline/site_pages.py",
        "site_claims::test_a_claim_names_the_cells_that_it_is_computed_from",
        ("cells by their key, not their label", "(label.get(m, m), nfe, metric)", "(m, nfe, metric)"),
        ("a claim's unit left in its statistic", r"(.*?)(?: \(([^()]*)\))?", "(.*)()"),
    ),
    *within(
        "pipeline/report.py",
        "lagrangian_eulerian",
        ("another pipeline's picture of claims", "picture.alt, drawn)", "picture.alt)"),
        (
            "claims left to notebooks",
            "csv(claims.with_others(results.claims, results.tables, workspace.tier))",
            "csv(results.claims)",
        ),
    ),
    *within(
        "pipeline/typeset.py",
        "typeset",
        ("a dollar in code is a formula", r"```.*?```|`[^`\n]+`|", ""),
        (
            "a link to a file that is not beside",
            'if url.startswith("https://") else text',
            "if url else text",
        ),
        (
            "a text that is taken for a page",
            "super().__init__(escape=True)",
            "super().__init__(escape=False)",
        ),
        ("formulas of the lines above", "formulas[int(match[1])]", "formulas[0]"),
    ),
    (
        "a cell of another",
        "pipeline/site.py",
        "getattr(row, name)) for name in self.COLUMNS",
        "getattr(self.rows[0], name)) for name in self.COLUMNS",
        "site_results::test_a_cell_shows_what_its_table_says",
    ),
    *within(
        "pipeline/dvc.py",
        "stages",
        ("a cut list of DVC's is kept", "json.loads(path.read_bytes())", "path.read_bytes()"),
        ("a lock that lost its last stages is whole", "before[: len(names)] == names", "not before"),
        ("no patience with another DVC", "time.monotonic() < waited + patience:", "False:"),
    ),
    *within(
        "pipeline/repro.py",
        "repro",
        ("the checkerboard in its turn", "return not own, -sum(", "return False, -sum("),
        ("what took least comes first", "return not own, -sum(", "return not own, sum("),
        ("two at once whatever the workers", "and compute.workers > 1 else 1", "else 1"),
        ("others begin after one has stopped", "pool.shutdown(cancel_futures=True)", "pool.shutdown()"),
        ("DVC looks at what the other is at", '["--single-item", *(', "[*("),
        ("DVC outlives its caller", "exit_with_parent(int(sys.argv.pop(1)))", "sys.argv.pop(1)"),
        ("two write over each other on a terminal", "if beside_others else {})", "if False else {})"),
    ),
    *within(
        "pipeline/timings.py",
        "repro",
        ("a killed stage counts for ever", "        remove_left(marks.glob", "        list(marks.glob"),
        ("two that end at once", "if lock(alone.fileno()):", "if True:"),
    ),
    (
        "all seconds for each of two",
        "pipeline/notebooks.py",
        "(now - self.last) / self.at_work()",
        "(now - self.last)",
        "repro",
    ),
    (
        "a phase left out of the graph",
        "pipeline/site_pages.py",
        '"speed", "protocol", "publish")',
        '"speed", "publish")',
        "site_provenance::test_the_arrows_between_stages_are_those_of_dvc",
    ),
    *within(
        "pipeline/site_samples.py",
        "site_gallery::test_a_sheet_shows_the_first_samples_of_the_first_seed",
        ("samples of the last seed", '["method", "nfe"]).iter', '["method", "nfe"], keep="last").iter'),
        ("the level of another data set", '"SOURCE", None), "top", 255)', '"SOURCE", None), "none", 255)'),
    ),
    (
        "the second axis of a density down",
        "pipeline/site_samples.py",
        "[0].T[::-1] /",
        "[0].T /",
        "site_gallery::test_a_density_is_dark_where_the_points_are_with_the_second_axis_up",
    ),
    (
        "the zoo's results not brought to the site",
        "pipeline/report.py",
        "site.refresh(workspace, files)",
        "pass",
        "zoo::test_both_are_published_beside_each_other_in_any_order_and_again_the_same",
    ),
    (
        "the first argument is lost",
        "pipeline/site_api.py",
        'if "." in maker.qualname else maker.signature)',
        "if True else maker.signature)",
        "site_api::test_an_objective_has_its_formula_its_arguments_and_its_example",
    ),
    (
        "seconds of the clock on a CPU",
        "evaluation/speed.py",
        'time.thread_time if device == "cpu" else time.perf_counter, []',
        "time.perf_counter, []",
        "evidence_protocols::test_a_call_on_a_cpu_is_timed_by_its_own_core",
    ),
]
