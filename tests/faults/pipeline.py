"""Faults in pipeline/: the site."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "pipeline/site_pages.py",
        "site::test_the_arrows_between_stages_are_those_of_dvc",
        (
            "arrows that another says already",
            "if not any(first in before[other] for other in names)",
            "if names",
        ),
        ("a folder is not what is in it", 'or path.startswith(f"{folder}/")', "or path is folder"),
    ),
    *within(
        "pipeline/site_pages.py",
        "site::test_a_claim_names_the_cells_that_it_is_computed_from",
        ("cells by their key, not their label", "(label.get(m, m), nfe, metric)", "(m, nfe, metric)"),
        ("a claim's unit left in its statistic", r"(.*?)(?: \(([^()]*)\))?", "(.*)()"),
    ),
    *within(
        "pipeline/typeset.py",
        "site",
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
        "site::test_a_cell_shows_what_its_table_says",
    ),
]
