"""The API reference: every public name, from the docstrings."""

from __future__ import annotations

import re

import fewstep
from fewstep import objectives
from fewstep.pipeline import site_api, typeset


def test_every_name_of_the_public_page_leads_to_its_entry(files):
    text = files["api.html"].decode()
    found = re.findall(r'<th scope="row"><a href="(.*?)"><code>(\w+)</code>', text)
    places = {name: place for place, name in found}
    assert list(places) == fewstep.__all__ and places["lmd"] == "api/objectives.html#lmd.lmd"
    for name, place in places.items():
        file, _, anchor = place.partition("#")
        page = files[file].decode() if file else text
        assert f'id="{anchor}"' in page, name
    assert "<strong>" not in text and "&gt;&gt;&gt;" in text


def test_an_objective_has_its_formula_its_arguments_and_its_example(files):
    text = files["api/objectives.html"].decode()
    for name in objectives.names():
        section = text.partition(f'id="module-{name}"')[2].partition(f'id="{name}.{name}"')
        (tex,) = re.findall(r"\$\$(.+?)\$\$", objectives.equation(name), re.DOTALL)
        assert typeset.formula(tex, block=True) in section[0], name
    entry = text.partition('id="lmd.lmd"')[2].partition("</section>")[0]
    words = re.sub(r"<.*?>", "", entry)
    assert "student: FlowMap" in words and "teacher: Velocity" in words and "-&gt; Tensor" in words
    assert "b_t(X_{s,t}(I_s))|^2" in words and "torch.Tensor" not in words


def test_methods_stand_below_their_class_and_nothing_private_anywhere():
    (module,) = [own for own in site_api.rooms()["flows"] if own["name"] == "flow_map"]
    entries = {own["name"]: own for own in module["entries"]}
    methods = [own["name"] for own in entries["FlowMap"]["methods"]]
    assert methods[:3] == ["average_velocity", "average_velocity_pushforward", "velocity"]
    assert entries["NetworkFlowMap"]["words"] == "class NetworkFlowMap(network: Module)"
    assert entries["Velocity"]["words"] == "class Velocity"
    ids = [own["id"] for modules in site_api.rooms().values() for one in modules for own in one["entries"]]
    assert not [own for own in ids if re.search(r"(^|\.)_", own)] and "exact.gaussian.GaussianFlow" in ids
