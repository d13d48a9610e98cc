"""params.yaml: laws of times, weights a sample, couplings and weaker teachers."""

from .case import Case
from .settings import changed


def _both_weights() -> dict[str, object]:
    term = {"objective": "lmd", "times": {"region": "forward"}, "adaptive": {}}
    return {"label": "LMD", "teacher": "si", "terms": [term], "learned_weight": True}


def _matching() -> list[Case]:
    """SiD's settings, in the zoo's row of it."""
    own = "experiments.zoo-checkerboard.methods.sid"

    def matching(name: str, key: str, value: object, says: str) -> Case:
        return changed(name, f"{own}.{key}", value, says)

    return [
        matching(
            "a negative alpha", "distribution_matching.alpha", -1.0, r"alpha: .*than or equal to 0, not"
        ),
        matching("a momentum of one", "distribution_matching.beta1", 1.0, r"beta1: .*less than 1, not 1"),
        matching("an infinite rate of f", "distribution_matching.lr", float("inf"), r"\.lr: .*not inf"),
        matching("a misspelt alpha", "distribution_matching.alhpa", 1.0, r"alhpa': remove it"),
        matching(
            "no teacher to match", "start", "scratch", r"`distribution_matching` starts from its teacher"
        ),
        changed(
            "distributions matched on another path",
            "experiments.zoo-checkerboard.training.interpolant",
            "trigonometric",
            r"`methods\.sid\.distribution_matching` is for the linear interpolant, not for 'trigonometric'",
        ),
        changed(
            "distributions of captions matched",
            "experiments.scflow-coco2017.methods.sid",
            {
                "label": "SiD",
                "teacher": "si",
                "start": "teacher",
                "distribution_matching": {"lr": 0.01},
                "steps": 8,
            },
            r"`methods\.sid\.distribution_matching` draws no data, and so no captions: remove it",
        ),
    ]


def _learned_by_scflow() -> dict[str, object]:
    correction = {"threshold": 0.1, "truncation": 0.4}
    taught = {"teacher": "si", "start": "teacher", "self_correction": correction}
    return {"label": "LMD", "learned_weight": True} | taught


def cases() -> list[Case]:
    """Laws of times, weights a sample, couplings and weaker teachers."""
    own, terms = "experiments.tour.methods", "experiments.tour.methods.lmd.terms"

    def times(name: str, says: str, **settings: object) -> Case:
        term = {"objective": "lmd", "times": {"region": "forward"} | settings}
        return changed(name, terms, [term], says)

    def weighted(name: str, says: str, **settings: object) -> Case:
        term = {"objective": "lmd", "times": {"region": "forward"}, "adaptive": settings}
        return changed(name, terms, [term], rf"lmd\.terms\.0\.adaptive{says}")

    def method(name: str, key: str, value: object, says: str) -> Case:
        return changed(name, f"{own}.{key}", value, says)

    return [
        times("a law of times that there is not", r"times\.law: .*'dyadic', .*, not 'normal'", law="normal"),
        times("levels of no grid", r"`levels` is of the law 'dyadic', not of 'uniform'", levels=3),
        times("a mean of a grid", r"`mean` is of the law 'logit-normal' and 'gap'", law="dyadic", mean=0.0),
        times("a gap without its mean", r"the law 'gap' needs `mean`", law="gap", deviation=1.0),
        times(
            "a deviation of zero",
            r"times\.deviation: .*greater than 0, not 0",
            law="gap",
            mean=0.0,
            deviation=0.0,
        ),
        times("a grid of 2^64", r"times\.levels: .*less than or equal to 20", law="dyadic", levels=64),
        times(
            "a strip of another law",
            r"a strip is of the uniform law, not of 'dyadic'",
            law="dyadic",
            strip=0.5,
        ),
        times(
            "gaps on the diagonal",
            r"the law 'gap' has the regions noise, data, forward, square, not 'diagonal'",
            law="gap",
            mean=0.0,
            deviation=1.0,
            region="diagonal",
        ),
        weighted("an adaptive weight that divides by nothing", r"\.offset: .*than 0, not 0", offset=0.0),
        weighted("a negative power", r"\.power: .*than or equal to 0, not -1", power=-1.0),
        weighted("a misspelt power", r"\.pow': remove it", pow=1.0),
        method("two weights a sample", "lmd", _both_weights(), r"weigh the same samples: remove one"),
        method(
            "a coupling of a student",
            "lmd.coupling",
            {"kind": "generator"},
            r"`coupling` is of the noise and data of methods without a teacher: remove it, or `teacher`",
        ),
        method(
            "a coupling that there is not",
            "si.coupling",
            {"kind": "optimal"},
            r"there is no coupling 'optimal'; there are generator, encoder",
        ),
        method(
            "a share above one",
            "si.coupling",
            {"kind": "generator", "share": 2.0},
            r"coupling\.share: .*to 1",
        ),
        method(
            "an infinite weight of a coupling",
            "si.coupling",
            {"kind": "encoder", "weight": float("inf")},
            r"coupling\.weight: .*not inf",
        ),
        method(
            "a weak teacher of no student",
            "si.autoguidance",
            {"weak": "lmd", "scale": 2.0},
            r"`autoguidance` leads a teacher away from a weaker one: name a `teacher`",
        ),
        method(
            "a weak teacher that there is not",
            "lmd.autoguidance",
            {"weak": "small", "scale": 2.0},
            r"`methods\.lmd\.autoguidance\.weak` is 'small', which is not a method here; there are si, lmd",
        ),
        method(
            "a weak teacher that is the teacher",
            "lmd.autoguidance",
            {"weak": "si", "scale": 2.0},
            r"`autoguidance\.weak` is 'si', the teacher itself",
        ),
        method(
            "a weak teacher that is distilled",
            "lmd.autoguidance",
            {"weak": "lmd", "scale": 2.0},
            r"autoguidance\.weak` is 'lmd', which is distilled itself",
        ),
        method(
            "autoguidance without its scale",
            "lmd.autoguidance",
            {"weak": "si"},
            r"the key '.*autoguidance\.scale' is missing",
        ),
        method("a weight learned by SCFlow", "lmd", _learned_by_scflow(), r"`learned_weight` is of `terms`"),
        method(
            "distributions matched beside a loss",
            "lmd.distribution_matching",
            {"lr": 0.01},
            r"give a method either `terms` or `self_correction` or `distribution_matching`",
        ),
        *_matching(),
    ]
