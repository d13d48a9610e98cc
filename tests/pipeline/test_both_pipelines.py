"""The field in one table, beside the main pipeline: neither makes the other run again."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from fewstep.storage.files import read_written

from .conftest import Clone, scratch
from .test_pipeline import ZOO_NOTEBOOKS, contents


@pytest.fixture(scope="module")
def both(built, tmp_path_factory) -> Clone:
    """A copy of the built clone, in which the zoo has run too."""
    own = scratch(built, tmp_path_factory.mktemp("zoo") / "fewstep")
    done = own.run("python", "-m", "fewstep", "repro", "--folder", "zoo")
    assert "the report is results/smoke/zoo.md" in done.stdout
    assert "do not compare" not in done.stdout
    return own


def test_the_field_is_published_beside_the_other_tables(both, built):
    files = read_written(both.file("results/smoke"), "zoo.json")
    tables = {
        name[7:-4]: pd.read_csv(io.BytesIO(own)) for name, own in files.items() if name.startswith("tables/")
    }
    computed = {"eulerian-family", "consistency-error", "lagrangian-against-eulerian"}
    assert set(tables) == {"zoo-checkerboard", "zoo-digits", "zoo-latents"} | computed
    assert tables["zoo-checkerboard"].method.nunique() > 16
    for table in tables.values():
        assert set(table.tier) == {"smoke"} and table.value.notna().all()
        assert (table.groupby("metric").protocol.nunique() == 1).all()
    assert sum(name.startswith("notebooks/") for name in files) == ZOO_NOTEBOOKS
    main, found = contents(built, "results/smoke"), contents(both, "results/smoke")
    # of the main results the site alone is another, which shows both
    changed = {name for name in main if found.get(name) != main[name]}
    assert all("/site/" in name or name.endswith("/written.json") for name in changed)
    site = "results/smoke/site"
    for page, word in (("results.html", b'id="zoo-checkerboard"'), ("gallery.html", b"samples-zoo-digits")):
        assert word in found[f"{site}/{page}"] and word not in main[f"{site}/{page}"]


def test_after_it_neither_pipeline_has_anything_to_do(both):
    before = contents(both, "results/smoke")
    # its tables and the site lie in folders that are the main publish's outputs: that one looks once more
    assert both.repro() == {"publish"} and both.repro() == set() and both.repro("zoo/dvc.yaml") == set()
    assert contents(both, "results/smoke") == before
    names = {
        line.split(",")[0] for line in both.file("results/smoke/timings.csv").read_text("utf-8").splitlines()
    }
    assert not [name for name in names if "zoo" in name or "one-map" in name]
