"""Faults where results are kept or handed on: latents, saved students and their cards, the report."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "data/latents.py",
        "latents",
        ("a draw without its deviation", "(mean + std * eps)", "mean"),
        ("latents not scaled", "self.factor * (mean + std * eps)", "(mean + std * eps)"),
        ("decoded at another scale", "decode_many(z / self.factor)", "decode_many(z)"),
        ("another autoencoder's latents", "if beside != autoencoder:", "if False:"),
        ("latents of any scale", "if not DEVIATION[0] <= deviation <= DEVIATION[1]:", "if False:"),
    ),
    *within(
        "release/card.py",
        "card",
        ("numbers of any tier", " & (table.tier == experiment.tier)", ""),
        ("another method's numbers", " & (table.method == label)", ""),
        ("a cell of two tables twice", '.drop_duplicates(["metric", "nfe"])', ""),
    ),
    *within(
        "release/pipeline.py",
        "release/pipeline",
        ("noise of another stream", "NOISE + int(sampling_seed)", "int(sampling_seed)"),
    ),
    *within(
        "release/showcase.py",
        "showcase_writing",
        ("a table of another run", "(alone.revision, alone.parameters)", "(cell.revision, cell.parameters)"),
        ("measured on another noise", '{"train_seed": SEED, "sample_seed": SEED}', '{"train_seed": SEED}'),
        ("more than every clone shall carry", ")) > MOST:", ")) > MOST**9:"),
    ),
    *within(
        "release/folder.py",
        "showcase_writing",
        ("a name before a folder of one's own", "if names and not given.exists():", "if names:"),
    ),
    *within(
        "pipeline/report.py",
        "evidence_chain image_tables::test_numbers_of_other_settings_than_those_written_are_refused",
        (
            "seeds for samples in the README",
            "{first.seeds} seeds, {first.samples} samples",
            "{first.samples} seeds, {first.seeds} samples",
        ),
        (
            "numbers of other settings",
            "if unknown := set(table.parameters) - set(results.settings):",
            "if unknown := set():",
        ),
    ),
    *within(
        "flows/sampler_names.py",
        "evidence_protocols",
        ("guidance is one call", "== 1 else 2", "== 1 else 1"),
        ("a step of Heun's is one call", '"heun": 2', '"heun": 1'),
    ),
]
