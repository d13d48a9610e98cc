"""params.yaml: teachers, objectives, labels and weights of methods, and names of all kinds."""

import json
from functools import reduce

from .case import Case
from .settings import TIER, changed, params


def _methods() -> list[Case]:
    """Teachers, objectives, labels, weights."""
    methods, own = "experiments.fmm-checkerboard.methods", "experiments.tour.methods"

    def term(objective: str, **options: object) -> list[dict[str, object]]:
        return [{"objective": objective, "times": {"region": "forward"}, "options": options}]

    def options(name: str, says: str, objective: str, **options: object) -> Case:
        return changed(
            name,
            f"{own}.lmd.terms",
            term(objective, **options),
            rf"the objective '{objective}': `options\.{says}",
        )

    return [
        changed(
            "a method that teaches itself",
            f"{methods}.lmd.teacher",
            "lmd",
            r"lmd learns from lmd: break the circle",
        ),
        changed(
            "teachers in a circle",
            f"{methods}.si",
            {"label": "SI", "teacher": "lmd", "terms": "lmd"},
            r"si learns from lmd learns from si: break",
        ),
        changed(
            "an option of a wrong value",
            f"{own}.lmd.terms",
            term("lmd", gradient="half"),
            r"`options\.gradient` must be one of full, semi, value, not 'half'",
        ),
        options(
            "another objective's gradient",
            r"gradient` must be one of full, semi, not 'value'",
            "emd",
            gradient="value",
        ),
        options("two warm-ups", r"warmup` must be a number from 0 to 1, not 2", "meanflow", warmup=2),
        options("no step", r"h` must be a number from 1e-06 to 1, not 0", "consistency_training", h=0),
        options(
            "half a halving",
            r"halvings` must be a whole number from 0 to 20, not 0\.5",
            "consistency_training",
            halvings=0.5,
        ),
        options(
            "nothing that holds", r"weight` must be a number from 0 to 0\.99, not 1", "contrastive", weight=1
        ),
        changed(
            "a sample without a pair",
            "terms.si",
            [
                {"objective": "si", "share": 0.45, "times": {"region": "diagonal"}},
                {"objective": "imm", "share": 0.55, "times": {"region": "forward"}},
            ],
            r"the share of 'imm' in a batch of \d+, \d+ samples, must be a multiple of 2: change `batch`",
        ),
        options(
            "a number for a text", r"gradient` must be one of full, semi, value, not 1", "lmd", gradient=1
        ),
        options(
            "a text for a number",
            r"jumps` must be a whole number from 1 to 1,000, not 'two'",
            "pfmm",
            jumps="two",
        ),
        options("half a jump", r"jumps` must be a whole number from 1 to 1,000, not 0\.5", "pfmm", jumps=0.5),
        options(
            "a billion steps of a teacher",
            r"steps` must be a whole number .*not 10{9}",
            "reflow",
            steps=10**9,
        ),
        options("no steps of a teacher", r"steps` must be a whole number .*not 0", "reflow", steps=0),
        options(
            "an infinite invertibility",
            r"invertibility` must be a number from 0 to 1,000,000, not inf",
            "fmm",
            invertibility=float("inf"),
        ),
        changed(
            "an option that is a list",
            f"{own}.lmd.terms",
            term("lmd", gradient=["semi"]),
            r"options\.gradient: .*\['semi'\]",
        ),
        changed(
            "an option that there is not",
            f"{own}.lmd.terms",
            term("lmd", gradiant="semi"),
            r"has no setting 'gradiant'",
        ),
        changed(
            "times that do not divide a batch",
            f"{own}.lmd.terms",
            term("reflow", times=3),
            r"`options\.times` 3 must divide the share of 'reflow' in a batch of 128",
        ),
        changed(
            "a share of no sample",
            "terms.si",
            [
                {"objective": "si", "share": share, "times": {"region": "diagonal"}}
                for share in (0.999, 0.001)
            ],
            r"the share of 'si' in a batch of \d+ is no sample: raise `batch`",
        ),
        changed(
            "a weight of a term of zero",
            f"{own}.lmd.terms",
            [term("lmd")[0] | {"weight": 0}],
            r"lmd\.terms\.0\.weight: .*than 0, not 0",
        ),
        changed(
            "an empty label",
            f"{methods}.lmd.label",
            "",
            r"methods\.lmd\.label: a label is one line of 1 to 80",
        ),
        changed(
            "a label of two lines",
            f"{methods}.lmd.label",
            "a\nb",
            r"methods\.lmd\.label: a label is one line",
        ),
        changed(
            "a label with a table's bar",
            f"{methods}.lmd.label",
            "a|b",
            r"methods\.lmd\.label: a label is one line .*none of them `\|`",
        ),
        changed(
            "a repeated label",
            f"{methods}.lmd.label",
            "EMD",
            r"'lmd' and 'emd' have one label, 'EMD', in the tables",
        ),
        changed(
            "a label called exact",
            f"{methods}.lmd.label",
            "exact",
            r"'exact' and 'lmd' have one label, 'exact', in the tables",
        ),
        changed(
            "a label of a solver's row",
            "experiments.fmm-cifar10.methods.emd.label",
            "SI, heun",
            r"'emd' and 'si-heun' have one label",
        ),
        changed(
            "weights that climb",
            f"{methods}.si.weights",
            "../../etc/x.safetensors",
            r"methods\.si\.weights: a name is made of .*'\.\.'",
        ),
        changed(
            "weights by an absolute path",
            f"{methods}.si.weights",
            "/etc/x.safetensors",
            r"methods\.si\.weights: a name is made of",
        ),
        changed(
            "weights that climb later",
            f"{methods}.si.weights",
            "lfm/../x.safetensors",
            r"methods\.si\.weights: a name is made of .*'\.\.'",
        ),
        changed(
            "weights of another kind",
            f"{methods}.si.weights",
            "lfm/x.pth",
            r"methods\.si\.weights: weights are named FOLDER/FILE\.safetensors",
        ),
        changed(
            "a teacher's form without a teacher",
            f"{own}.si.teacher_as",
            "stages",
            r"`teacher_as: stages` needs a `teacher`",
        ),
        changed(
            "a repository that climbs",
            f"{TIER}.latents.celebahq.autoencoder",
            {"kind": "pretrained", "repository": "../x"},
            r"autoencoder\.repository: .*pattern",
        ),
        changed("no methods", methods, {}, r"fmm-checkerboard\.methods: .*at least 1 item"),
    ]


def _names() -> list[Case]:
    """Names of experiments, methods, data: they become folders, and words of commands."""
    made = r"a name is made of up to 64 letters, digits, .*: rename "
    experiment = json.loads(params())["experiments"]["tour"]

    def named(name: str, place: str, entry: object, value: object) -> Case:
        raw = json.loads(params())
        owner = reduce(lambda owner, part: owner[part], place.split("."), raw)
        return changed(name, place, owner | {entry: value}, made)

    return [
        named("an experiment called ../x", "experiments", "../x", experiment),
        named("an experiment without a name", "experiments", "", experiment),
        named("an experiment called ..", "experiments", "..", experiment),
        named(
            "a method that the shell would run",
            "experiments.tour.methods",
            "fmm; touch pwned",
            experiment["methods"]["si"],
        ),
        named("a method that is an option", "experiments.tour.methods", "-rf", experiment["methods"]["si"]),
        named("a name of 65 letters", "experiments.tour.methods", "a" * 65, experiment["methods"]["si"]),
        named("a name with a line end", "experiments.tour.methods", "a\n", experiment["methods"]["si"]),
        named("features called /x", f"{TIER}.features", "/x", {"data": "digits", "extractor": "classifier"}),
        named("latents called a/b", f"{TIER}.latents", "a/b", {"like": "celebahq"}),
        named("a CLIP called $HOME", f"{TIER}.clip", "$HOME", {"like": "captions"}),
        named("a network with a blank", f"{TIER}.networks", "a b", {"like": "points"}),
        named("a table called ../x", "experiments.scflow-celebahq.tables", "../x", ["si"]),
        changed(
            "a tier that has other sizes",
            "tiers.huge",
            {},
            r"tiers\.huge: .*'smoke', 'laptop', 'overnight' or 'paper'",
        ),
        changed(
            "a method called exact",
            "experiments.tour.methods.exact",
            experiment["methods"]["si"],
            r"no method can be called 'exact'",
        ),
        changed(
            "data by a path",
            "experiments.tour.training.data",
            "../x",
            r"there is no data set '\.\./x'; there are",
        ),
        changed("a tier that there is not", "tier", "lapto", r"`tier` must be one of smoke"),
    ]


def cases() -> list[Case]:
    """All of them."""
    return [*_methods(), *_names()]
