"""The tables, those of the zoo among them, and all that is known of a cell."""

from __future__ import annotations

import json
import re

import pandas as pd

from fewstep.settings.names import ZOO

from .pages import TIER, published, seen, slide


def test_a_cell_shows_what_its_table_says(root, files):
    data = json.loads(re.search(r'id="data">(.*?)</script>', files["results.html"].decode(), re.DOTALL)[1])
    cells = [dict(zip(data["columns"], (data["texts"][k] for k in row))) for row in data["rows"]]
    rows = pd.concat([*published(root).tables.values(), *published(root, ZOO).tables.values()]).to_dict(
        "records"
    )
    assert len(cells) == len(rows)
    for cell, row in zip(cells, rows):
        assert cell == {key: None if pd.isna(row[key]) else row[key] for key in data["columns"]}


def test_the_tables_and_pictures_of_the_zoo_stand_among_the_others(files, root):
    text, zoo = files["results.html"].decode(), published(root, ZOO)
    assert len(zoo.tables) == 6
    for name, own in zoo.tables.items():
        section = text[text.index(f'id="{name}"') :].partition("</section>")[0]
        assert f'data-again="make zoo TIER={TIER}"' in section and own.revision.iloc[0] in section
        assert f"../tables/{name}.csv" in section and f"notebooks/{own.notebook.iloc[0]}.html" in section
    main = text[text.index('id="fmm-checkerboard"') :].partition("</section>")[0]
    assert f"make repro TIER={TIER} EXPERIMENT=fmm-checkerboard" in main and "make zoo" not in main
    (pictures,) = zoo.pictures.values()
    assert len(pictures) == 9
    for file, picture in pictures.items():
        assert f'src="../figures/{file}"' in files["gallery.html"].decode() and picture["title"]
    # an objective's rows are those of both
    section = files["methods.html"].decode().partition('id="imm"')[2].partition("</section>")[0]
    assert "<td>zoo-checkerboard</td><td>IMM</td>" in section


def test_rows_are_filtered_and_a_cell_tells_all(opened, root):
    page, rows = opened("results.html"), seen("tbody tr", "own.dataset.method")
    everything = page.value(rows)
    page.value(slide("filter", "lmd fmm-checkerboard"))
    assert page.value(rows) == ["LMD"] and len(everything) > 40
    page.value(slide("filter", "precision"))
    assert set(page.value(seen(".metric", "own.dataset.metric"))) == {"precision"}
    page.value(slide("filter", ""))
    # by keyboard alone
    page.value("[...document.querySelectorAll('.cell')].find((own) => own.offsetParent).focus()")
    page.press("Enter")
    told = page.value("document.querySelector('#detail').innerText")
    first = next(iter(published(root).tables.values())).iloc[0]
    again = f"make repro TIER={TIER} EXPERIMENT={first.experiment}"
    for word in (first.method, first.revision, f"{first.parameters}.json", first.seeds, again):
        assert str(word) in told
    page.press("Escape")
    assert "No cell" in page.value("document.querySelector('#detail').innerText")
    assert page.value("document.activeElement.className") == "cell"
    assert not page.value(seen(".published", "1"))
    page.value("document.querySelector('#published').click()")
    assert page.value(seen(".published", "1"))
    assert page.value("document.querySelectorAll('.chart svg .line').length") > 40


def test_a_cell_of_the_zoo_says_how_it_is_made_again(opened):
    page = opened("results.html")
    page.value("document.querySelector('#zoo-digits .cell').click()")
    told = page.value("document.querySelector('#detail').innerText")
    assert f"make zoo TIER={TIER}" in told and "zoo-digits" in told
