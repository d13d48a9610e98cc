"""Faults in settings/ and in the defaults of objectives: what nobody wrote down."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "settings/training.py",
        "defaults",
        ("a term's weight", "    weight: Positive = 1.0", "    weight: Positive = 2.0"),
        ("a term's share", "    share: Share = 1.0", "    share: Share = 0.5"),
        ("whose stop-gradient", '["student", "ema"] = "student"', '["student", "ema"] = "ema"'),
        ("where training starts", '["scratch", "teacher"] = "scratch"', '["scratch", "teacher"] = "teacher"'),
    ),
    *within(
        "settings/laws.py",
        "defaults",
        ("the strip", "    strip: Share = 1.0", "    strip: Share = 0.5"),
        ("MeanFlow's power", "power: Weight = 1.0", "power: Weight = 0.5"),
        ("MeanFlow's offset", "offset: Positive = 0.01", "offset: Positive = 1.0"),
        ("the share of a generator", "share: Share = 0.5", "share: Share = 1.0"),
        ("the weight of a divergence", "weight: Weight = 20.0", "weight: Weight = 1.0"),
    ),
    *within(
        "settings/laws.py",
        "times::test_settings_name_a_law_and_leave_no_trace_of_the_uniform_one "
        "sample_weights::test_what_does_not_go_together_is_refused",
        ("a law's settings left out", "self.model_dump())", 'self.model_dump(exclude={"law", "mean"}))'),
        ("the settings of another law", "and key not in OF_LAW[law]:", "and False:"),
    ),
    *within(
        "settings/training.py",
        "sample_weights::test_what_does_not_go_together_is_refused",
        ("a coupling of a student", "if self.coupling and self.teacher is not None:", "if False:"),
        (
            "two weights a sample",
            "if self.learned_weight and any(term.adaptive for term in self.terms):",
            "if False:",
        ),
    ),
    *within(
        "settings/training.py",
        "defaults",
        ("c of the pseudo-Huber distance", "huber_c: Positive = 0.01", "huber_c: Positive = 0.03"),
        ("the target's average", "target_ema: Fraction = 0.9 ", "target_ema: Fraction = 0.99"),
        ("Adam's beta1", "beta1: Fraction = 0.9  #", "beta1: Fraction = 0.0  #"),
        ("SiD's alpha", "alpha: Weight = 1.2", "alpha: Weight = 1.0"),
    ),
    *within(
        "settings/prepared.py", "defaults", ("the scale of latents", "SCALE = 0.18215", "SCALE = 0.13025")
    ),
    *within(
        "settings/prepared.py",
        "defaults",
        ("steps of the classifier", "    steps: Count = 800", "    steps: Count = 80"),
    ),
    *within(
        "settings/resolve.py",
        "settings::test_a_tier_like_another_is_that_with_what_it_says_itself "
        "settings::test_a_mistake_is_named_in_the_tier_that_makes_it",
        ("a tier is like no other", '_like(file["tiers"], tier, TIERS), file', 'file["tiers"][tier], file'),
        (
            "the neighbour over the tier itself",
            "return merge(under, {key:",
            "return merge(own, under) or ({key:",
        ),
        (
            "a mistake in the neighbour tier is named here",
            "for start in (*((*TIERS, name) for name in tiers), ()):",
            "for start in ((*TIERS, tier), ()):",
        ),
    ),
    *within("objectives/lmd.py", "defaults", ("semi for full", 'Gradient = "full"', 'Gradient = "semi"')),
    *within("objectives/emd.py", "defaults", ("full for semi", 'Gradient = "semi"', 'Gradient = "full"')),
    *within("objectives/esd.py", "defaults", ("full for semi", 'Gradient = "semi"', 'Gradient = "full"')),
    *within(
        "objectives/__init__.py",
        "settings::test_the_settings_of_objectives_are_what_their_signatures_say",
        (
            "limits that are not read",
            "return found[1:] if get_origin(annotation) is Annotated else found",
            "return ()",
        ),
    ),
    *within(
        "objectives/imm.py",
        "settings::test_pairs_need_an_even_share_of_each_process",
        ("a sample without a pair", "GROUP = 2", "GROUP = 1"),
    ),
    *within(
        "networks/__init__.py",
        "predictions",
        ("a prediction of data as a velocity", '"data": DataPredictionFlowMap', '"data": NetworkFlowMap'),
    ),
    *within(
        "settings/networks.py",
        "predictions",
        ("a default that is written down", 'exclude_if=lambda value: value == "velocity"', "exclude_if=None"),
    ),
    *within(
        "objectives/fmm.py",
        "defaults",
        ("invertibility", "invertibility: float = 1.0", "invertibility: float = 0.0"),
    ),
    *within("objectives/psd.py", "defaults", ("the split", 'Split = "midpoint"', 'Split = "uniform"')),
    *within("objectives/pfmm.py", "defaults", ("the jumps", "jumps: int = 2", "jumps: int = 4")),
    *within("objectives/reflow.py", "defaults", ("the teacher's steps", "steps: int = 8", "steps: int = 4")),
]
