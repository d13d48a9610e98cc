"""Students that are told texts: prompts, guidance, and what reads them."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from dvc.utils.hydra import apply_overrides
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer

from fewstep.evaluation import sample
from fewstep.networks import clip, clip_files, tokens
from fewstep.networks.load import load_flow_map
from fewstep.networks.published_unet import PublishedUNet
from fewstep.networks.tokens import TokenizerError
from fewstep.release import (
    FewStepPipeline,
    FlowMapModel,
    FlowMapScheduler,
    TextTokenizer,
    folder,
    pipeline,
    prompts,
    saving,
    seeded,
)
from fewstep.storage.checkpoint import CheckpointError
from fewstep.training import clip as contrastive

from .students import TEXTS, TOLD_NETWORK

ODD = [
    "",
    "Красный круг 🔴 赤い円",
    "<|endoftext|> a red circle",
    "a \ud800 circle",
    "  A  RED\tcircle ",
    "x",
]
LONG = "a red circle to the left of a blue square " * 8


@pytest.fixture(scope="module")
def reader(clone) -> clip.Clip:
    """The CLIP that read the captions, as the project's own samples know it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        return contrastive.load(contrastive.ClipPreparation.open("smoke", "captions"))


@pytest.fixture(scope="module")
def flow_map(clone):
    return load_flow_map(clone / f"artifacts/smoke/{TEXTS}/students/scflow/seed-0.safetensors")


def drawn(pipe, prompt, **asked) -> np.ndarray:
    return pipe(prompt, output_type="uint8", **{"generator": seeded(0)} | asked).images


def quietly(pipe, prompt, **asked) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", prompts.CutWarning)
        return drawn(pipe, prompt, **asked)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_any_string_is_read_as_the_projects_own_samples_read_it(clone, told, reader, flow_map, scale):
    texts = [*ODD, LONG]
    noise = torch.randn(len(texts), 4, 4, 4, generator=torch.Generator().manual_seed(1))
    points = sample.sample(
        flow_map, f"guided-{scale:g}", noise, 2, conditions=reader.text(texts), empty=reader.text([""])
    ).points
    source = saving.chosen(clone, "smoke", TEXTS, "scflow", 0).experiment.source
    assert np.array_equal(
        quietly(told, texts, noise=noise, num_inference_steps=2, guidance_scale=scale),
        source.to_uint8(points).numpy(),
    )


def test_samples_go_through_the_network_as_many_together_as_in_sampling(told, monkeypatch):
    asked = []

    def together(dimensions: int, with_text: bool, device: str) -> int:
        asked.append((dimensions, with_text, device))
        return 2

    monkeypatch.setattr(pipeline, "together", together)
    sizes, network = [], told.flow_map.forward
    monkeypatch.setattr(
        told.flow_map, "forward", lambda s, *others: sizes.append(len(s)) or network(s, *others)
    )
    assert len(drawn(told, "a red circle", batch_size=5)) == 5
    assert asked == [(3, True, "cpu")] and sizes == [2, 2, 1]


def test_a_prompt_decides_the_picture_and_guidance_brings_it_nearer(told):
    red, blue, none = (drawn(told, text, batch_size=4) for text in ("a red circle", "a blue cross", ""))
    assert not np.array_equal(red, blue) and not np.array_equal(red, none)
    assert not np.array_equal(red, drawn(told, "a red circle", batch_size=4, guidance_scale=3))
    # a scale of 0 is the empty text's flow, whatever is said; and none is 1
    assert np.array_equal(
        drawn(told, "a red circle", batch_size=4, guidance_scale=0),
        drawn(told, "a blue cross", batch_size=4, guidance_scale=0),
    )
    assert (
        np.array_equal(red, drawn(told, "a red circle", batch_size=4, guidance_scale=1))
        and told.config.guidance_scale == 1
    )


def test_one_prompt_is_for_all_images_and_several_are_one_an_image(told):
    two = ["a red circle", "a blue cross"]
    assert np.array_equal(drawn(told, two[0], batch_size=3), drawn(told, [two[0]] * 3))
    assert np.array_equal(drawn(told, [two[0]], batch_size=3), drawn(told, (two[0],) * 3))
    assert (
        len(drawn(told, two)) == 2
        and len(drawn(told, two, batch_size=2)) == 2
        and len(drawn(told, two[0])) == 1
    )
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    both = drawn(told, two, noise=noise)
    assert np.array_equal(both[0], drawn(told, two[0], noise=noise)[0]) and np.array_equal(
        both[1], drawn(told, two[1], noise=noise)[1]
    )


@pytest.mark.parametrize(
    "asked, said",
    [
        ({}, "draws what a text says: give `prompt`"),
        ({"prompt": []}, "`prompt` is an empty list"),
        ({"prompt": 3}, "is a text or a list of texts, not int"),
        ({"prompt": ["a", None, "b"]}, "holds None at place 2 of 3, which is no text"),
        ({"prompt": [b"a"]}, "holds b'a' at place 1 of 1"),
        (
            {"prompt": ["a", "b"], "batch_size": 3},
            "2 prompts do not go with 3 images: give one prompt for all of them, or one an image",
        ),
        ({"prompt": ["a", "b"], "noise": torch.zeros(3, 4, 4, 4)}, "2 prompts do not go with 3 images"),
        (
            {"prompt": ["a", "b"], "noise": torch.zeros(2, 4, 4, 4), "batch_size": 3},
            r"this student starts from \(3, 4, 4, 4\)",
        ),
        ({"prompt": "a", "batch_size": 0}, "one image at least, not 0"),
        ({"prompt": "a", "guidance_scale": -1}, "`guidance_scale` is a number from 0 on, not -1: 1 is none"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "from 0 on, not nan"),
        ({"prompt": "a", "guidance_scale": "high"}, "from 0 on, not 'high'"),
        ({"prompt": "a", "guidance_scale": True}, "from 0 on, not True"),
    ],
)
def test_what_is_no_prompt_and_no_guidance_is_one_sentence(told, asked, said):
    with pytest.raises(ValueError, match=said):
        told(**asked)


def test_a_long_prompt_is_cut_with_one_warning_that_counts_what_was_lost(told, reader):
    lost = reader.tokenizer.dropped([LONG, LONG + "and more"])
    assert reader.length == 48 and 0 < lost[0] < lost[1]
    with pytest.warns(prompts.CutWarning) as caught:
        one = drawn(told, LONG)
    said = f"the prompt is longer than the 48 tokens that this student reads: {lost[0]} tokens at its end were lost"
    assert [str(warning.message) for warning in caught] == [said] and caught[0].filename == __file__
    with pytest.warns(prompts.CutWarning) as caught:
        drawn(told, [LONG, "a", LONG + "and more"], guidance_scale=2)
    assert [str(warning.message) for warning in caught] == [
        f"2 of 3 prompts are longer than the 48 tokens that this student reads: {sum(lost)} tokens at their ends were lost"
    ]  # fmt: skip
    # what lies behind the cut decides nothing, and what fits is warned of by nobody
    assert np.array_equal(one, quietly(told, LONG + "and more"))
    drawn(told, "a red circle")


def test_a_guided_sampler_is_the_students_own_guidance(here, students, told):
    assert [saving.kind_of(name) for name in ("guided-1.5", "guided-1", "euler", "jumps", "heun")] == [
        ("euler", 1.5), ("euler", 1.0), ("euler", 1.0), ("jumps", 1.0), ("heun", 1.0)
    ]  # fmt: skip
    guided = FewStepPipeline.from_pretrained(students[TEXTS, "si"])
    assert (guided.config.guidance_scale, guided.scheduler.config.kind) == (1.5, "euler")
    assert np.array_equal(drawn(guided, "a red circle"), drawn(guided, "a red circle", guidance_scale=1.5))
    assert not np.array_equal(
        drawn(guided, "a red circle", batch_size=9),
        drawn(guided, "a red circle", guidance_scale=1, batch_size=9),
    )
    with pytest.raises(ValueError, match="FlowMapScheduler has no setting 'guidance'"):
        FlowMapScheduler.from_config(dict(guided.scheduler.config) | {"guidance": 2})


def test_a_sampler_that_is_no_steps_of_a_pipeline_is_refused(here, tmp_path, monkeypatch):
    for name in ("artifacts", "data"):
        (tmp_path / name).symlink_to(here / name)
    shutil.copy(here / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", [f"experiments.{TEXTS}.sampling.samplers.si=heun"])
    with pytest.raises(
        ValueError, match="'si' is sampled by 'heun', and a pipeline knows jumps, euler and guided-<scale>"
    ):
        saving.chosen(tmp_path, "smoke", TEXTS, "si", 0)


def test_only_the_clip_that_read_the_captions_is_saved_with_a_student(here, tmp_path):
    own = tmp_path / "scratch" / "smoke" / "clip" / "captions"
    shutil.copytree(here / "artifacts/smoke/clip/captions", own)
    choice = saving.chosen(here, "smoke", TEXTS, "scflow", 0)
    assert choice.reader.folder == own
    described = json.loads((own / "described.json").read_text())
    (own / "described.json").write_text(json.dumps(described | {"checksum": "0123456789"}))
    with pytest.raises(
        CheckpointError,
        match=r"were read by another CLIP \(sha256 \w{8}\) than lies in \S+captions \(01234567\): run `dvc repro` again",
    ):
        saving.pipeline(choice)


def test_a_published_text_encoder_keeps_its_name_and_its_licence(
    here, students, reader, monkeypatch, tmp_path
):
    described = clip_files.read_described(here / "artifacts/smoke/clip/captions") | {
        "clip": "openai/some-clip",
        "repository": "openai/some-clip",
        "data": None,
    }
    monkeypatch.setattr(clip_files, "read_described", lambda place: described)
    # the text encoder of a text-to-image model, without the tower of images
    monkeypatch.setattr(contrastive, "load", lambda maker: clip.Clip(reader.text_tower, reader.tokenizer))
    saving.save(saving.chosen(here, "smoke", TEXTS, "scflow", 0), tmp_path / "own")
    text = (tmp_path / "own" / "README.md").read_text()
    assert (
        "The text encoder is openai/some-clip, under its own licence." in text
        and "the text tower of a CLIP (openai/some-clip; sha256 " in text
    )
    names = ("text_encoder/model.safetensors", "text_encoder/config.json", "tokenizer/vocab.json")
    assert all(
        (tmp_path / "own" / name).read_bytes() == (students[TEXTS, "scflow"] / name).read_bytes()
        for name in names
    )


def test_latents_without_captions_make_no_student_that_is_told_some(here, tmp_path):
    own = tmp_path / "scratch" / "smoke" / "latents" / "laion"
    shutil.copytree(here / "artifacts/smoke/latents/laion", own)
    described = json.loads((own / "described.json").read_text())
    (own / "described.json").write_text(
        json.dumps({name: value for name, value in described.items() if name != "captions"})
    )
    with pytest.raises(
        CheckpointError, match=r"the captions of \S+laion were read by another CLIP \(sha256 none\)"
    ):
        saving.pipeline(saving.chosen(here, "smoke", TEXTS, "scflow", 0))


def test_a_saved_folder_holds_the_text_tower_alone_and_the_vocabulary(students, reader):
    place = students[TEXTS, "scflow"]
    files = {
        path.relative_to(place).as_posix() for path in place.rglob("*") if path.parent.name in folder.TEXTS
    }
    assert files == {
        "text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json",
    }  # fmt: skip
    assert files <= {line.split("  ")[1] for line in (place / folder.SUMS).read_text().splitlines()}
    index = json.loads((place / folder.INDEX).read_text())
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"] and index["tokenizer"] == [
        "fewstep.release.tokenizer",
        "TextTokenizer",
    ]
    found = CLIPTextModel.from_pretrained(place / "text_encoder")
    own = reader.text_tower.state_dict()
    assert {name: value.tolist() for name, value in found.state_dict().items()} == {
        name: value.tolist() for name, value in own.items()
    }
    assert TextTokenizer.from_pretrained(place / "tokenizer").texts.checksum == reader.tokenizer.checksum
    assert (
        index["student"]["clip"]["clip"] == "trained here, 4 steps of 32 pairs"
        and index["student"]["clip"]["captions"] == "scenes"
    )
    texts = [path.read_text() for path in place.rglob("*") if path.suffix in (".json", ".md", ".py")]
    assert not any(str(place.parent) in text for text in texts), "no folder of this machine"


def test_other_programs_read_the_same_tokens_from_the_same_files(students, told, reader):
    texts = [text for text in (*ODD, LONG) if "\ud800" not in text]
    expected = reader.tokenizer.encode(texts)[0].tolist()
    asked = {"padding": "max_length", "truncation": True}
    for found in (
        told.tokenizer,
        *(
            kind.from_pretrained(students[TEXTS, "scflow"] / "tokenizer")
            for kind in (TextTokenizer, CLIPTokenizer, AutoTokenizer)
        ),
    ):
        assert found(texts, **asked)["input_ids"] == expected
    assert (
        told.tokenizer.texts.encode(["a \ud800 circle"])[0].tolist()
        == reader.tokenizer.encode(["a \ud800 circle"])[0].tolist()
    )


def test_a_tokenizer_with_a_filling_of_its_own_is_found_again(reader, tmp_path):
    other = tokens.Tokenizer(reader.tokenizer.vocabulary, reader.tokenizer.merges, 7, "!")
    written = TextTokenizer(other).save_pretrained(tmp_path)
    assert sorted(written) == sorted(str(path) for path in tmp_path.iterdir())
    found = TextTokenizer.from_pretrained(tmp_path)
    assert (
        found.texts.checksum == other.checksum
        and found(["a"], padding="max_length")["input_ids"] == other.encode(["a"])[0].tolist()
    )


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
    ],
)
def test_a_missing_or_damaged_file_of_what_reads_texts_is_one_sentence(edited, name):
    place = edited(student=(TEXTS, "scflow"))
    whole = (place / name).read_bytes()
    (place / name).write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(
        CheckpointError,
        match=rf"{name} is damaged \(its checksum differs from that in SHA256SUMS\): copy it again",
    ):
        FewStepPipeline.from_pretrained(place)
    (place / name).unlink()
    with pytest.raises(
        folder.FolderError, match=f"{name} is not there: copy the folder whole, or save the student again"
    ):
        FewStepPipeline.from_pretrained(place)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("vocab.json", None, "vocab.json is not there: copy the folder whole"),
        ("merges.txt", None, "merges.txt is not there: copy the folder whole"),
        ("tokenizer_config.json", None, "tokenizer_config.json is not there: copy the folder whole"),
        ("vocab.json", "{", "vocab.json is damaged .*: copy the folder whole"),
        ("merges.txt", "#version: 0.2\na\n", "line 2 of .*merges.txt merges no tokens"),
        (
            "tokenizer_config.json",
            "{}",
            r"does not say `model_max_length`, the tokens that a text is cut to \(KeyError\)",
        ),
        (
            "tokenizer_config.json",
            '{"model_max_length": "many"}',
            "cuts texts to 'many' tokens, and it must be a whole number from 3 on",
        ),
        ("tokenizer_config.json", '{"model_max_length": 2}', "cuts texts to 2 tokens"),
    ],
)
def test_a_tokenizer_opened_by_itself_is_held_against_itself(edited, name, content, said):
    place = edited(student=(TEXTS, "scflow")) / "tokenizer"
    (place / name).unlink() if content is None else (place / name).write_text(content)
    with pytest.raises(TokenizerError, match=said):
        TextTokenizer.from_pretrained(place)


def test_components_that_do_not_go_together_are_one_sentence(told, pipe, reader):
    parts = {
        name: getattr(told, name) for name in ("flow_map", "scheduler", "vae", "text_encoder", "tokenizer")
    }
    other = TextTokenizer(tokens.Tokenizer(reader.tokenizer.vocabulary, reader.tokenizer.merges, 7))
    narrow = FlowMapModel(TOLD_NETWORK | {"width": 8}, [4, 4, 4])
    for changes, said in (
        ({"tokenizer": None}, "is told texts: give it the `text_encoder` and the `tokenizer`"),
        ({"text_encoder": None}, "is told texts: give it the `text_encoder` and the `tokenizer`"),
        ({"flow_map": pipe.flow_map}, "is told no texts: leave `text_encoder` and `tokenizer` out"),
        ({"tokenizer": reader.tokenizer.own}, "is a TextTokenizer and no CLIPTokenizer"),
        (
            {"tokenizer": other},
            "makes texts of 7 tokens of 560, and the text encoder reads 48 of 560: take both from one student",
        ),
        (
            {"flow_map": narrow},
            "the text encoder's tokens are 16 wide, and the network reads some that are 8 wide",
        ),
        ({"guidance_scale": -2.0}, "from 0 on, not -2.0"),
    ):
        with pytest.raises(ValueError, match=said):
            FewStepPipeline(**parts | changes)
    with pytest.raises(ValueError, match="trained without text, and guidance compares texts"):
        FewStepPipeline(pipe.flow_map, pipe.scheduler, guidance_scale=2.0)


def test_loading_warns_of_nothing_and_a_loaded_student_is_stored_again(edited, caplog):
    place = edited(student=(TEXTS, "si"))

    def read() -> dict:
        return {path.name: path.read_bytes() for path in place.rglob("*") if path.parent.name in folder.TEXTS}

    before = read()
    FewStepPipeline.from_pretrained(place).save_pretrained(place)
    assert read() == before and len(before) == 5
    assert [record.getMessage() for record in caplog.records] == []


def test_a_student_saved_before_texts_were_known_is_opened(edited):
    place = edited()
    index = json.loads((place / folder.INDEX).read_text())
    (place / folder.INDEX).write_text(
        json.dumps(
            {
                name: value
                for name, value in index.items()
                if name not in ("text_encoder", "tokenizer", "guidance_scale")
            }
        )
    )
    assert len(FewStepPipeline.from_pretrained(place)().images) == 1


def test_the_published_network_is_stored_and_found_again(tmp_path, told):
    settings = {
        "kind": "published_unet",
        "channels": [8, 16],
        "layers": 1,
        "attention": [True, False],
        "heads": 2,
        "groups": 4,
        "width": 16,
        "checkpointing": True,
    }
    torch.manual_seed(0)
    made = FlowMapModel(settings, [4, 4, 4]).requires_grad_(False).eval()
    assert isinstance(made.flow_map.network, PublishedUNet)
    torch.nn.init.normal_(made.flow_map.network.model.conv_out.weight, std=0.1)
    torch.nn.init.normal_(made.flow_map.network.gap_embed[2].weight, std=0.1)
    own = FewStepPipeline(
        made, FlowMapScheduler("jumps"), told.vae, told.text_encoder, told.tokenizer, bypass=True
    )
    own.save_pretrained(tmp_path / "own")
    found = FewStepPipeline.from_pretrained(tmp_path / "own")
    texts = ["a red circle", "a blue cross"]
    first, again, other = (
        drawn(one, said, guidance_scale=2, num_inference_steps=2)
        for one, said in ((own, texts), (found, texts), (found, texts[::-1]))
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
