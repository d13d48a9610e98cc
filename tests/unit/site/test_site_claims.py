"""The claims: the cells behind each, and links to them."""

from __future__ import annotations

import pytest

from fewstep.pipeline import site, site_pages

from .pages import published


def test_a_claim_names_the_cells_that_it_is_computed_from(root):
    own = published(root)
    cells = site.Cells(own.tables)
    found = site_pages.claims(own.ledger, own.tables, {n: own.labels(n) for n in own.tables}, cells.find)
    found = {claim["name"]: claim for of_paper in found.values() for claim in of_paper}
    assert len(found) == len(own.ledger)
    for name, claim in found.items():
        assert claim["cells"] or "gradient" in name, name
        assert all(cell["id"] is not None for cell in claim["cells"]), name
    beats = found["lmd-beats-emd"]
    values = {cell["method"]: cells.rows[cell["id"]].value for cell in beats["cells"]}
    assert values["EMD"] - values["LMD"] == pytest.approx(beats["value"], abs=1e-4)
    assert beats["unit"] == "nats" and beats["threshold"] == "0"


def test_links_to_a_claim_and_to_a_cell_open_them(opened):
    page = opened("claims.html#lmd-beats-emd")
    assert page.value("document.getElementById('lmd-beats-emd').open")
    target = page.value("document.querySelector('#lmd-beats-emd .pill').getAttribute('href')")
    opened(target)
    told = page.value("document.querySelector('#detail').innerText")
    assert "EMD, N = 1" in told and "KL to target of fmm-checkerboard" in told
