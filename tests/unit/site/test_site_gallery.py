"""Samples of all methods from the same noise, at the N of a slider."""

from __future__ import annotations

import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from fewstep.evaluation.csv_files import DamagedFileError
from fewstep.pipeline import site_samples

from .pages import CAPTIONS, drawn, samples, slide


def opened_png(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def shown(files, experiment: str) -> dict[str, dict[str, str]]:
    """The sheets of each method, as the page has them."""
    text = files["gallery.html"].decode()
    section = text.partition(f'id="samples-{experiment}"')[2].partition("</section>")[0]
    found = re.findall(r'data-label="(.*?)" data-sheets="(.*?)"', section)
    return {html.unescape(label): json.loads(html.unescape(sheets)) for label, sheets in found}


def test_a_strip_has_every_image_at_its_place_and_level():
    images = np.arange(3 * 1 * 8 * 8, dtype=np.uint8).reshape(3, 1, 8, 8) % 17
    found = opened_png(site_samples.strip(images, top=16))
    assert found.shape == (8, 3 * 8 + 2, 3)
    for k, image in enumerate(images):
        assert (found[:, 9 * k : 9 * k + 8, 0] == np.rint(image[0] * (255 / 16))).all()
    assert (found[:, [8, 17]] == 255).all()
    colours = np.zeros((2, 3, 128, 128), dtype=np.uint8)
    colours[1, 2, ::2] = 200  # every second row is blue, and 2 x 2 pixels become their mean
    small = opened_png(site_samples.strip(colours))
    assert small.shape == (64, 64 + 4 + 64, 3)
    assert (small[:, :64] == 0).all() and (small[:, 68:] == [0, 0, 100]).all()


def test_a_density_is_dark_where_the_points_are_with_the_second_axis_up():
    found = opened_png(site_samples.density(np.full((100, 2), [0.52, 0.92], dtype=np.float32)))
    assert found.shape == (44, 44, 3)
    # of 44 bins from -1.1 to 1.1, the one 1.62 from the left and 0.18 from the top
    dark = np.argwhere(found.sum(2) < 3 * 255)
    assert dark.tolist() == [[3, 32]]


def test_a_sheet_shows_the_first_samples_of_the_first_seed(files):
    sheets = shown(files, "fmm-cifar10")
    assert {label: list(own) for label, own in sheets.items()} == {
        "SI": ["2", "8"], "LMD": ["1", "2", "4"], "SI, heun": ["4"]
    }  # fmt: skip
    first = drawn("fmm-cifar10", "lmd2-0.npy")[:8]
    assert files[sheets["LMD"]["2"]] == site_samples.strip(first, 16)
    points = drawn("fmm-checkerboard", "si80-0.npy")
    assert files[shown(files, "fmm-checkerboard")["SI"]["80"]] == site_samples.density(points)
    assert shown(files, "zoo-digits").keys() == {"LMD"}
    text = files["gallery.html"].decode()
    for caption in CAPTIONS[:8]:
        assert text.count(f"<li>{html.escape(caption)}</li>") == 1
    assert html.escape(CAPTIONS[8]) not in text and text.count("Captions from left") == 1


def test_samples_that_are_cut_are_refused(tmp_path):
    samples(tmp_path, "fmm-cifar10")
    (tmp_path / "fmm-cifar10" / "lmd1-0.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DamagedFileError, match="lmd1-0.npy cannot be read"):
        site_samples.sheets(tmp_path / "fmm-cifar10", {}, "digits", lambda content: "x.png")


def test_one_slider_moves_all_methods_and_says_what_they_lack(opened, files):
    page, name = opened("gallery.html"), "fmm-cifar10"
    figures = f"[...document.querySelectorAll('#samples-{name} figure')]"
    say = f"{figures}.map((own) => [own.innerText.trim(), own.querySelector('img').getAttribute('src')])"
    sheets = shown(files, name)
    assert page.value(say)[0][0] == "SI none up to N = 1: it begins at 2"
    assert page.value(say)[1] == ["LMD", sheets["LMD"]["1"]]
    hidden = f"{figures}.map((own) => own.querySelector('img').offsetParent === null)"
    assert page.value(hidden) == [True, False, True]
    # by keyboard alone: the calls are 1, 2, 4, 8
    page.value(f"document.getElementById('calls-{name}').focus()")
    for _ in range(2):
        page.press("ArrowRight")
    assert page.value(say) == [
        ["SI none at N = 4: this is 2", sheets["SI"]["2"]],
        ["LMD", sheets["LMD"]["4"]],
        ["SI, heun", sheets["SI, heun"]["4"]],
    ]
    assert page.value(f"document.querySelector('#samples-{name} output').textContent") == "4"
    assert page.value(f"document.getElementById('calls-{name}').getAttribute('aria-valuetext')") == "4"
    alts = f"{figures}.map((own) => own.querySelector('img').alt)"
    assert page.value(alts) == ["SI, N = 2", "LMD, N = 4", "SI, heun, N = 4"]
    page.value(slide(f"calls-{name}", 0))
    assert page.value(say)[1] == ["LMD", sheets["LMD"]["1"]]
    loaded = "[...document.querySelectorAll('.samples img')].every((own) => own.naturalWidth > 0)"
    assert page.value(loaded)
