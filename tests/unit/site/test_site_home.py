"""The first page: two networks that compute in it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from fewstep.metrics.points import kl_to_checkerboard
from fewstep.networks import load_flow_map
from fewstep.pipeline import site, site_pages
from fewstep.storage.workspace import Workspace

from .pages import TIER, published, slide


def test_without_weights_and_samples_there_is_all_else(root, workspace, files, tmp_path):
    shutil.copy(workspace.root / "dvc.yaml", tmp_path)
    bare = site.build(Workspace(tmp_path, TIER), published(root))
    assert "weights.js" in files and "weights.js" not in bare
    assert bare.keys() < files.keys()
    assert b'class="samples"' not in bare["gallery.html"] and b"make zoo" not in bare["results.html"]
    assert b"<canvas" not in bare["index.html"] and b"<canvas" in files["index.html"]


def test_javascript_computes_what_python_does(opened, workspace):
    page, generator = opened("index.html"), torch.Generator().manual_seed(3)
    x = 1.5 * torch.randn(64, 2, generator=generator)
    s, t = torch.rand(2, 64, generator=generator)
    given = json.dumps(torch.cat([s[:, None], t[:, None], x], 1).tolist())
    for name in site_pages.LIVE:
        flow_map = load_flow_map(workspace.pipeline / site_pages.LIVE[name] / site_pages.SEED)
        found = page.value(f"{given}.map((own) => fewstep.{name}.jump(...own))")
        assert np.abs(np.array(found) - flow_map.jump(s, t, x).numpy()).max() < 1e-5
        ends = x.clone()
        for k in range(4):
            ends = ends + flow_map.velocity(torch.full((64,), k / 4), ends) / 4
        found = page.value(f"{given}.map((own) => fewstep.{name}.euler(4, own[2], own[3])[4])")
        assert np.abs(np.array(found) - ends.numpy()).max() < 1e-5
    points = 0.6 * torch.randn(1024, 2, generator=generator)
    found = page.value(f"fewstep.kl({json.dumps(points.tolist())}, 16)")
    assert found == pytest.approx(kl_to_checkerboard(points.numpy(), bins=16).value, abs=1e-9)


def ends(name: str, kind: str = "end") -> str:
    return f"[...document.querySelectorAll('#{name}-paths .{kind}')].map((own) => +own.getAttribute('cx'))"


def test_points_are_moved_by_slider_keys_and_pointer(opened):
    page = opened("index.html")
    teacher, student = page.value(ends("teacher")), page.value(ends("student"))
    page.value(slide("calls", 0))
    # one Euler step is another path; the student's jump is one call all the while
    assert page.value(ends("teacher")) != teacher and page.value(ends("student")) == student
    page.value(slide("time", 0))
    assert page.value(ends("student")) == page.value(ends("student", "start"))
    page.value(slide("time", 1))
    page.value("document.querySelector('#student-paths .start').focus()")
    page.press("ArrowRight")
    moved = page.value(ends("student"))
    assert moved[0] != student[0] and moved[1:] == student[1:]
    # the second point, to the right by a tenth of the field of three units
    page.value("document.querySelector('.live').scrollIntoView()")
    box = "((own) => [own.left, own.top, own.width])({}.getBoundingClientRect())"
    left, top, size = page.value(box.format("document.querySelectorAll('#student-paths .start')[1]"))
    _, _, field = page.value(box.format("document.querySelector('#student-paths')"))
    before = page.value(ends("student", "start"))[1]
    for kind, along in (("mousePressed", 0.0), ("mouseMoved", 0.1), ("mouseReleased", 0.1)):
        at = {"x": left + size / 2 + along * field, "y": top + size / 2}
        page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)
    assert page.value(ends("student", "start"))[1] == pytest.approx(before + 0.3, abs=0.02)


def test_kl_is_updated(opened):
    page = opened("index.html")
    wait = """(async () => {
      for (let k = 0; k < 300; k++) {
        const own = document.querySelector('#teacher-kl').textContent;
        if (own > 0) return own;
        await new Promise((done) => setTimeout(done, 20));
      }
    })()"""
    assert float(page.value(wait)) > 0
