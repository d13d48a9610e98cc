"""A saved folder: what does not load is one sentence, and what is written replaces nobody else's files."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from fewstep.networks import autoencoder
from fewstep.release import FewStepPipeline, folder
from fewstep.storage.checkpoint import CheckpointError

from .students import FACES, NETWORK


@pytest.mark.parametrize(
    "file, settings, said",
    [
        (
            "scheduler/scheduler_config.json",
            {"beta": 1},
            "FlowMapEulerDiscreteScheduler has no setting 'beta'",
        ),
        ("flow_map/config.json", {"depth": 1}, "FlowMapModel has no setting 'depth'"),
        ("model_index.json", {"bottom": 3}, "FewStepPipeline has no setting 'bottom'"),
        (
            "flow_map/config.json",
            {"top": 0},
            "`top` of a FlowMapModel is a whole number from 1 to 255, not 0",
        ),
        ("flow_map/config.json", {"noise_scale": "1"}, "`noise_scale` .* is a number above 0, not '1'"),
        ("flow_map/config.json", {"sampler": "heun"}, "`sampler` .* is 'jumps' or 'euler', not 'heun'"),
        ("flow_map/config.json", {"bypass": "no"}, "`bypass` .* is true or false, not 'no'"),
        ("flow_map/config.json", {"guidance_scale": 2}, "guidance compares texts: leave"),
        (
            "flow_map/config.json",
            {"settings": NETWORK | {"layer": 2}},
            "are no settings of a network .*'layer'",
        ),
        ("flow_map/config.json", {"settings": NETWORK | {"kind": "nope"}}, "there is no network 'nope'"),
        (
            "flow_map/config.json",
            {"settings": NETWORK | {"channels": [8, 16]}},
            r"of another network than config.json there says \('\S+' is of another shape\)",
        ),
        (
            "flow_map/config.json",
            {"settings": NETWORK | {"attention": [False, False]}},
            "is in one and not in the other",
        ),
        (
            "flow_map/config.json",
            {"shape": [2]},
            r"`shape` of a FlowMapModel is three whole numbers above 0: .*, not \[2\]",
        ),
        (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            r"holds a StableDiffusionPipeline and no saved student \(FewStepPipeline\)",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_one_sentence(edited, file, settings, said):
    with pytest.raises(ValueError, match=said):
        FewStepPipeline.from_pretrained(edited(file, **settings))


@pytest.mark.parametrize("name", ["settings", "shape", "sampler", "noise_scale", "top"])
def test_what_decides_the_images_has_no_default(edited, name):
    place = edited()
    config = json.loads((place / "flow_map/config.json").read_text(encoding="utf-8"))
    (place / "flow_map/config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k != name}), encoding="utf-8"
    )
    folder.list_files(place)
    with pytest.raises(ValueError, match=f"config.json does not say `{name}` of a FlowMapModel"):
        FewStepPipeline.from_pretrained(place)


def test_a_decoder_that_does_not_fit_is_one_sentence(edited):
    place = edited("vae/config.json", (FACES, "scflow"), scaling_factor=None)
    with pytest.raises(ValueError, match="`scaling_factor` of the `vae` is a number above 0, not None"):
        FewStepPipeline.from_pretrained(place)
    index = json.loads((place / folder.INDEX).read_text(encoding="utf-8"))
    (place / folder.INDEX).write_text(json.dumps(index | {"vae": [None, None]}), encoding="utf-8")
    folder.list_files(place)
    with pytest.raises(ValueError, match="draws in latents of 4 channels: give it the `vae`"):
        FewStepPipeline.from_pretrained(place)


def test_missing_and_damaged_files_are_one_sentence(edited, tmp_path):
    place, name = edited(student=(FACES, "scflow")), "diffusion_pytorch_model.safetensors"
    whole = (place / "vae" / name).read_bytes()
    for content in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1])):
        (place / "vae" / name).write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"vae/\S+ is damaged \(its checksum differs from that in SHA256SUMS\)"
        ):
            FewStepPipeline.from_pretrained(place)
    (place / "vae" / name).unlink()
    with pytest.raises(folder.FolderError, match=f"vae/{name} is not there: copy the folder whole"):
        FewStepPipeline.from_pretrained(place)
    (place / "vae" / name).write_bytes(whole)
    (place / "README.md").unlink()
    FewStepPipeline.from_pretrained(place)
    (place / folder.INDEX).write_text("{", encoding="utf-8")
    with pytest.raises(folder.FolderError, match="cannot be read as JSON"):
        FewStepPipeline.from_pretrained(place)
    (place / folder.INDEX).unlink()
    with pytest.raises(folder.FolderError, match="is no saved student: it holds no model_index.json"):
        FewStepPipeline.from_pretrained(place)
    with pytest.raises(
        folder.FolderError, match="there is no such folder; .* one on a hub must be downloaded first"
    ):
        FewStepPipeline.from_pretrained("someone/some-student")


def test_a_folder_without_its_checksums_is_refused(edited):
    place = edited()
    (place / folder.SUMS).write_text("nothing\n", encoding="utf-8")
    with pytest.raises(folder.FolderError, match="is no list of checksums and names"):
        FewStepPipeline.from_pretrained(place)
    (place / folder.SUMS).unlink()
    with pytest.raises(folder.FolderError, match="SHA256SUMS is not there"):
        FewStepPipeline.from_pretrained(place)


def test_a_saved_folder_is_safetensors_and_text_with_checksums(students):
    place = students[FACES, "scflow"]
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    name = "diffusion_pytorch_model.safetensors"
    assert files == {
        "model_index.json",
        "README.md",
        "pipeline.py",
        "SHA256SUMS",
        "flow_map/config.json",
        f"flow_map/{name}",
        "scheduler/scheduler_config.json",
        "vae/config.json",
        f"vae/{name}",
    }
    listed = dict(
        reversed(line.split("  ")) for line in (place / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    )
    assert listed == {file: autoencoder.checksum(place / file) for file in files - {"SHA256SUMS"}}
    assert json.loads((place / "vae/config.json").read_text(encoding="utf-8"))["scaling_factor"] == 0.7
    index = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
    assert index["flow_map"] == ["fewstep.release.network", "FlowMapModel"]
    assert index["scheduler"] == ["diffusers", "FlowMapEulerDiscreteScheduler"]
    config = json.loads((place / "flow_map/config.json").read_text(encoding="utf-8"))
    assert config["student"] == {
        "experiment": FACES,
        "method": "scflow",
        "label": "SCFlow",
        "tier": "smoke",
        "seed": 0,
        "data": "faces",
        "fingerprint": "0123456789abcdef",
    }
    assert (config["bypass"], config["top"], config["sampler"]) == (True, 255, "euler")
    texts = [
        path.read_text(encoding="utf-8")
        for path in place.rglob("*")
        if path.suffix in (".json", ".md", ".py")
    ]
    assert not any(str(place.parent) in text for text in texts), "no folder of this machine"


def test_a_loaded_student_is_stored_again_over_itself_and_over_nothing_else(edited, pipe, tmp_path):
    place = edited()
    pipe.save_pretrained(place)
    assert not (place / "README.md").exists()
    FewStepPipeline.from_pretrained(place)
    (place / "vae").mkdir()
    (place / "vae" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(
        folder.FolderError,
        match="holds vae/notes.txt, which is no part of a saved student: nothing was written",
    ):
        pipe.save_pretrained(place)
    assert (place / "vae" / "notes.txt").read_text(encoding="utf-8") == "mine"
    other = tmp_path / "other"
    other.mkdir()
    pipe.save_pretrained(other)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(folder.FolderError, match="file is a file: nothing was written"):
        pipe.save_pretrained(tmp_path / "file")
    # another pipeline of diffusers is somebody's too
    (other / folder.INDEX).write_text('{"_class_name": "DDPMPipeline"}', encoding="utf-8")
    with pytest.raises(folder.FolderError, match="other exists and is no saved student: nothing was written"):
        pipe.save_pretrained(other)


def test_whatever_stops_the_writing_leaves_the_older_student(edited):
    place = edited()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def stopping(fresh: Path) -> None:
        (fresh / "half").write_text("", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write(place, stopping)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before and list(
        place.parent.iterdir()
    ) == [place]


def test_a_link_stays_a_link_and_the_folder_that_it_leads_to_is_written(edited, pipe, tmp_path):
    place = edited()
    for name, leads in (("link", place), ("dangling", tmp_path / "new")):
        (tmp_path / name).symlink_to(leads)
        pipe.save_pretrained(tmp_path / name)
        assert (tmp_path / name).readlink() == leads and (leads / folder.INDEX).is_file()
        FewStepPipeline.from_pretrained(tmp_path / name)
    assert not list(tmp_path.glob(".*")), "nothing is left behind"


def test_where_nothing_can_be_written_is_one_sentence(edited, pipe, tmp_path, monkeypatch):
    place = edited()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def full(self: Path, *given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match=f"No space left on device; nothing was written to: '{place}'"):
        pipe.save_pretrained(place)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [place]


def test_whoever_reads_a_student_may_write_notes_beside_it(edited):
    place = edited()
    (place / "README.md").write_text("mine", encoding="utf-8")
    (place / "picture.png").write_bytes(b"mine")
    (place / ".gitattributes").write_text("*.safetensors filter=lfs", encoding="utf-8")
    FewStepPipeline.from_pretrained(place)
