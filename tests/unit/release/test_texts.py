"""Students that are conditioned on captions: prompts, guidance, and what reads them."""

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
from fewstep.networks import clip, clip_files, load_flow_map, tokens
from fewstep.networks.published_unet import PublishedUNet
from fewstep.release import FewStepPipeline, FlowMapModel, folder, pipeline, prompts, saving, seeded
from fewstep.storage.checkpoint import CheckpointError
from fewstep.training import clip as contrastive

from .students import TEXT_NETWORK, TEXTS, trained

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
    return load_flow_map(clone / "artifacts/smoke" / trained(TEXTS, "scflow"))


def drawn(pipe, prompt, **asked) -> np.ndarray:
    return pipe(prompt, output_type="uint8", **{"generator": seeded(0)} | asked).images


def quietly(pipe, prompt, **asked) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", prompts.CutWarning)
        return drawn(pipe, prompt, **asked)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_any_string_is_read_as_the_projects_own_samples_read_it(clone, conditional, reader, flow_map, scale):
    texts = [*ODD, LONG]
    noise = torch.randn(len(texts), 4, 4, 4, generator=torch.Generator().manual_seed(1))
    points = sample.sample(
        flow_map, f"guided-{scale:g}", noise, 2, conditions=reader.text(texts), empty=reader.text([""])
    ).points
    source = saving.find(clone, "smoke", TEXTS, "scflow", 0).experiment.source
    assert np.array_equal(
        quietly(conditional, texts, noise=noise, num_inference_steps=2, guidance_scale=scale),
        source.to_uint8(points).numpy(),
    )


def test_samples_go_through_the_network_as_many_together_as_in_sampling(conditional, monkeypatch):
    asked = []

    def together(dimensions: int, with_text: bool, device: str) -> int:
        asked.append((dimensions, with_text, device))
        return 2

    monkeypatch.setattr(pipeline, "together", together)
    sizes, network = [], conditional.flow_map.forward
    monkeypatch.setattr(
        conditional.flow_map, "forward", lambda s, *others: sizes.append(len(s)) or network(s, *others)
    )
    assert len(drawn(conditional, "a red circle", batch_size=5)) == 5
    assert asked == [(3, True, "cpu")] and sizes == [2, 2, 1]


def test_a_prompt_decides_the_picture_and_guidance_brings_it_nearer(conditional):
    red, blue, none = (
        drawn(conditional, text, batch_size=4) for text in ("a red circle", "a blue cross", "")
    )
    assert not np.array_equal(red, blue) and not np.array_equal(red, none)
    assert not np.array_equal(red, drawn(conditional, "a red circle", batch_size=4, guidance_scale=3))
    # a scale of 0 is the empty text's flow, whatever is said; and none is 1
    assert np.array_equal(
        drawn(conditional, "a red circle", batch_size=4, guidance_scale=0),
        drawn(conditional, "a blue cross", batch_size=4, guidance_scale=0),
    )
    assert (
        np.array_equal(red, drawn(conditional, "a red circle", batch_size=4, guidance_scale=1))
        and conditional.flow_map.config.guidance_scale == 1
    )


def test_one_prompt_is_for_all_images_and_several_are_one_an_image(conditional):
    two = ["a red circle", "a blue cross"]
    assert np.array_equal(drawn(conditional, two[0], batch_size=3), drawn(conditional, [two[0]] * 3))
    assert np.array_equal(drawn(conditional, [two[0]], batch_size=3), drawn(conditional, (two[0],) * 3))
    assert (
        len(drawn(conditional, two)) == 2
        and len(drawn(conditional, two, batch_size=2)) == 2
        and len(drawn(conditional, two[0])) == 1
    )
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    both = drawn(conditional, two, noise=noise)
    assert np.array_equal(both[0], drawn(conditional, two[0], noise=noise)[0]) and np.array_equal(
        both[1], drawn(conditional, two[1], noise=noise)[1]
    )


@pytest.mark.parametrize(
    "asked, said",
    [
        ({}, "draws what a text says: give `prompt`"),
        ({"prompt": []}, r"is a text or a list of texts, not \[\]"),
        ({"prompt": 3}, "is a text or a list of texts, not 3"),
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
        ({"prompt": "a", "batch_size": 0}, "`batch_size` is a whole number from 1 to 100,000, not 0"),
        ({"prompt": "a", "guidance_scale": -1}, "`guidance_scale` is a number from 0 on, not -1: 1 is none"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "from 0 on, not nan"),
        ({"prompt": "a", "guidance_scale": "high"}, "from 0 on, not 'high'"),
        ({"prompt": "a", "guidance_scale": True}, "from 0 on, not True"),
    ],
)
def test_what_is_no_prompt_and_no_guidance_is_one_sentence(conditional, asked, said):
    with pytest.raises(ValueError, match=said):
        conditional(**asked)


def test_a_long_prompt_is_cut_with_one_warning_that_counts_what_was_lost(conditional, reader):
    lost = reader.tokenizer.dropped([LONG, LONG + "and more"])
    assert reader.length == 48 and 0 < lost[0] < lost[1]
    with pytest.warns(prompts.CutWarning) as caught:
        one = drawn(conditional, LONG)
    long = "longer than the 48 tokens that this student reads"
    assert [str(warning.message) for warning in caught] == [
        f"1 of 1 prompts {long}: {lost[0]} tokens at the end were lost"
    ]
    assert caught[0].filename == __file__
    with pytest.warns(prompts.CutWarning) as caught:
        drawn(conditional, [LONG, "a", LONG + "and more"], guidance_scale=2)
    assert [str(warning.message) for warning in caught] == [
        f"2 of 3 prompts {long}: {sum(lost)} tokens at the end were lost"
    ]
    # what lies behind the cut decides nothing, and what fits is warned of by nobody
    assert np.array_equal(one, quietly(conditional, LONG + "and more"))
    drawn(conditional, "a red circle")


def test_a_guided_sampler_is_the_students_own_guidance(here, students, conditional):
    assert [saving.steps_of(name) for name in ("guided-1.5", "guided-1", "euler", "jumps", "heun")] == [
        ("euler", 1.5),
        ("euler", 1.0),
        ("euler", 1.0),
        ("jumps", 1.0),
        ("heun", 1.0),
    ]
    guided = FewStepPipeline.from_pretrained(students[TEXTS, "si"])
    assert (guided.flow_map.config.guidance_scale, guided.flow_map.config.sampler) == (1.5, "euler")
    assert np.array_equal(drawn(guided, "a red circle"), drawn(guided, "a red circle", guidance_scale=1.5))
    assert not np.array_equal(
        drawn(guided, "a red circle", batch_size=9),
        drawn(guided, "a red circle", guidance_scale=1, batch_size=9),
    )


def test_a_sampler_that_is_no_steps_of_a_pipeline_is_refused(here, tmp_path, monkeypatch):
    for name in ("artifacts", "data"):
        (tmp_path / name).symlink_to(here / name)
    shutil.copy(here / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", [f"experiments.{TEXTS}.sampling.samplers.si=heun"])
    with pytest.raises(
        ValueError, match="'si' is sampled by 'heun', and a pipeline knows jumps, euler and guided-<scale>"
    ):
        saving.find(tmp_path, "smoke", TEXTS, "si", 0)


def test_only_the_clip_that_read_the_captions_is_saved_with_a_student(here, tmp_path):
    own = tmp_path / "scratch" / "smoke" / "clip" / "captions"
    shutil.copytree(here / "artifacts/smoke/clip/captions", own)
    student = saving.find(here, "smoke", TEXTS, "scflow", 0)
    assert student.clip.folder == own
    described = json.loads((own / "described.json").read_text(encoding="utf-8"))
    (own / "described.json").write_text(json.dumps(described | {"checksum": "0123456789"}), encoding="utf-8")
    with pytest.raises(
        CheckpointError,
        match=r"read by another CLIP \(sha256 \w{8}\) than lies in \S+captions \(01234567\): run `dvc repro`",
    ):
        saving.pipeline(student)


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
    saving.save(saving.find(here, "smoke", TEXTS, "scflow", 0), tmp_path / "own")
    text = (tmp_path / "own" / "README.md").read_text(encoding="utf-8")
    assert (
        "The text encoder is openai/some-clip, under its own licence." in text
        and "the text tower of a CLIP (openai/some-clip; sha256 " in text
    )
    names = ("text_encoder/model.safetensors", "text_encoder/config.json", "tokenizer/tokenizer.json")
    assert all(
        (tmp_path / "own" / name).read_bytes() == (students[TEXTS, "scflow"] / name).read_bytes()
        for name in names
    )


def test_latents_without_captions_make_no_student_that_is_conditioned_on_some(here, tmp_path):
    own = tmp_path / "scratch" / "smoke" / "latents" / "laion"
    shutil.copytree(here / "artifacts/smoke/latents/laion", own)
    described = json.loads((own / "described.json").read_text(encoding="utf-8"))
    (own / "described.json").write_text(
        json.dumps({name: value for name, value in described.items() if name != "captions"}), encoding="utf-8"
    )
    with pytest.raises(
        CheckpointError, match=r"the captions of \S+laion were read by another CLIP \(sha256 none\)"
    ):
        saving.pipeline(saving.find(here, "smoke", TEXTS, "scflow", 0))


def test_a_saved_folder_holds_the_text_tower_alone_and_the_vocabulary(students, reader):
    place = students[TEXTS, "scflow"]
    files = {
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if path.parent.name in ("text_encoder", "tokenizer")
    }
    assert files == {
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    }
    assert files <= {
        line.split("  ")[1] for line in (place / folder.SUMS).read_text(encoding="utf-8").splitlines()
    }
    index = json.loads((place / folder.INDEX).read_text(encoding="utf-8"))
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]
    found = CLIPTextModel.from_pretrained(place / "text_encoder")
    own = reader.text_tower.state_dict()
    assert {name: value.tolist() for name, value in found.state_dict().items()} == {
        name: value.tolist() for name, value in own.items()
    }
    tokenizer = prompts.trained_with(CLIPTokenizer.from_pretrained(place / "tokenizer"))
    assert tokenizer.checksum == reader.tokenizer.checksum
    clip = json.loads((place / "flow_map/config.json").read_text(encoding="utf-8"))["student"]["clip"]
    assert clip["clip"] == "trained here, 4 steps of 32 pairs" and clip["captions"] == "scenes"
    texts = [
        path.read_text(encoding="utf-8")
        for path in place.rglob("*")
        if path.suffix in (".json", ".md", ".py")
    ]
    assert not any(str(place.parent) in text for text in texts), "no folder of this machine"


def test_other_programs_read_the_same_tokens_from_the_same_files(students, conditional, reader):
    texts = [text for text in (*ODD, LONG) if "\ud800" not in text]
    expected = reader.tokenizer.encode(texts)[0].tolist()
    asked = {"padding": "max_length", "truncation": True}
    for found in (
        conditional.tokenizer,
        *(
            kind.from_pretrained(students[TEXTS, "scflow"] / "tokenizer")
            for kind in (CLIPTokenizer, AutoTokenizer)
        ),
    ):
        assert found(texts, **asked)["input_ids"] == expected
    assert (
        conditional.texts.encode(["a \ud800 circle"])[0].tolist()
        == reader.tokenizer.encode(["a \ud800 circle"])[0].tolist()
    )


def test_a_tokenizer_with_a_filling_of_its_own_is_found_again(reader, tmp_path):
    other = tokens.Tokenizer(reader.tokenizer.vocabulary, reader.tokenizer.merges, 7, "!")
    prompts.component(other).save_pretrained(tmp_path)
    found = CLIPTokenizer.from_pretrained(tmp_path)
    assert (
        prompts.trained_with(found).checksum == other.checksum
        and found(["a"], padding="max_length")["input_ids"] == other.encode(["a"])[0].tolist()
    )


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/tokenizer.json",
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


def test_components_that_do_not_go_together_are_one_sentence(conditional, pipe, reader):
    parts = {
        name: getattr(conditional, name)
        for name in ("flow_map", "scheduler", "vae", "text_encoder", "tokenizer")
    }
    other = prompts.component(tokens.Tokenizer(reader.tokenizer.vocabulary, reader.tokenizer.merges, 7))
    narrow = FlowMapModel(TEXT_NETWORK | {"width": 8}, [4, 4, 4], "jumps", 1.0, 255)
    for changes, said in (
        ({"tokenizer": None}, "is conditioned on captions: give it the `text_encoder` and the `tokenizer`"),
        (
            {"text_encoder": None},
            "is conditioned on captions: give it the `text_encoder` and the `tokenizer`",
        ),
        ({"flow_map": pipe.flow_map}, "was trained without text: leave `text_encoder` and `tokenizer` out"),
        ({"tokenizer": reader.tokenizer}, "is a CLIPTokenizer, not a Tokenizer"),
        ({"vae": None}, "draws in latents of 4 channels: give it the `vae`"),
        (
            {"tokenizer": other},
            "makes texts of 7 tokens of 560, the text encoder reads 48 of 560, its states are 16 wide",
        ),
        ({"flow_map": narrow}, "its states are 16 wide, and the network reads 8: take all from one student"),
    ):
        with pytest.raises(ValueError, match=said):
            FewStepPipeline(**parts | changes)
    own = pipe.flow_map.config
    with pytest.raises(ValueError, match="trained without text, and guidance compares texts"):
        FlowMapModel(own.settings, own.shape, "jumps", 1.0, 255, guidance_scale=2.0)
    with pytest.raises(ValueError, match="from 0 on, not -2.0"):
        FlowMapModel(TEXT_NETWORK, [4, 4, 4], "jumps", 1.0, 255, guidance_scale=-2.0)


def test_loading_warns_of_nothing_and_a_loaded_student_is_stored_again(edited, caplog):
    place = edited(student=(TEXTS, "si"))

    def read() -> dict:
        # tokenizer_config.json says besides how transformers came to it
        files = [path for path in place.rglob("*") if path.parent.name in ("text_encoder", "tokenizer")]
        return {path.name: path.read_bytes() for path in files if path.name != "tokenizer_config.json"}

    before = read()
    FewStepPipeline.from_pretrained(place).save_pretrained(place)
    assert read() == before and len(before) == 3
    assert [record.getMessage() for record in caplog.records] == []


def test_the_published_network_is_stored_and_found_again(tmp_path, conditional):
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
    made = FlowMapModel(settings, [4, 4, 4], "jumps", 1.0, 255, bypass=True).requires_grad_(False).eval()
    assert isinstance(made.flow_map.network, PublishedUNet)
    torch.nn.init.normal_(made.flow_map.network.model.conv_out.weight, std=0.1)
    torch.nn.init.normal_(made.flow_map.network.gap_embed[2].weight, std=0.1)
    own = FewStepPipeline(**conditional.components | {"flow_map": made})
    own.save_pretrained(tmp_path / "own")
    found = FewStepPipeline.from_pretrained(tmp_path / "own")
    texts = ["a red circle", "a blue cross"]
    first, again, other = (
        drawn(one, said, guidance_scale=2, num_inference_steps=2)
        for one, said in ((own, texts), (found, texts), (found, texts[::-1]))
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
