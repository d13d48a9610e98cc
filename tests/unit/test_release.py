"""Saved students: the project's own samples bit for bit from a fresh process, a card that repeats the tables, and one sentence for all else."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fewstep import __main__, experiments, networks, objectives, samplers, sampling
from fewstep.checkpoint import CheckpointError, save_checkpoint
from fewstep.flow_map import NetworkFlowMap
from fewstep.networks import autoencoder
from fewstep.release import FewStepPipeline, FlowMapModel, FlowMapScheduler, card, folder, picture, saving, seeded
from fewstep.trained import load_flow_map
from fewstep.workspace import SCRATCH

NETWORK = {"kind": "unet", "channels": [8, 8], "layers": 1, "attention": [False, True], "groups": 4, "time_scale": 10.0, "dropout": 0.0}
PIXELS, FACES = "selfdistill-cifar10", "scflow-celebahq"
# one of each: pixels and latents, jumps and Euler steps
STUDENTS = ((PIXELS, "lsd"), ("fmm-cifar10", "si"), (FACES, "scflow"), (FACES, "lmd"))
# more than a chunk, and no multiple of one
COUNT, STEPS = sampling.IMAGES + 6, (1, 3)


def weights(path: Path, shape: tuple[int, ...]) -> None:
    """A trained flow map as a training writes it, its weights random, the last layer's too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(path.parts[-2]))
        built = networks.build(NETWORK, shape)
        nn.init.normal_(built.network.model.conv_out.weight, std=0.1)
    info = {"fingerprint": "0123456789abcdef", "network": NETWORK, "shape": list(shape)}
    save_checkpoint(path, {f"weights.{name}": value for name, value in built.state_dict().items()}, info)


def latents(place: Path) -> None:
    """Latents and their autoencoder as their stages leave them: 3 x 8 x 8 images, 4 x 4 x 4 latents, scale 0.7."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = autoencoder.small((3, 8, 8), [8, 8], 1, 4, 4)
    sizes = {"channels": [8, 8], "layers": 1, "groups": 4, "latent_channels": 4}
    save_checkpoint(place / "autoencoder" / autoencoder.TRAINED, network.state_dict(), {"network": sizes, "shape": [3, 8, 8]})
    (place / "autoencoder" / autoencoder.DESCRIBED).write_text(json.dumps({"checksum": "abc"}))
    described = {"data": "faces", "count": 6, "mirrored": False, "shape": [3, 8, 8], "top": 255, "latents": [4, 4, 4], "scale": 0.7, "autoencoder": "abc"}
    (place / "described.json").write_text(json.dumps(described))
    moments = np.random.default_rng(0).normal(size=(6, 8, 4, 4)).astype(np.float32)
    moments[:, 4:] = 0.1
    np.save(place / "moments.npy", moments)


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory) -> Path:
    """A clone of the repository with four trained students at tier smoke, and tables that hold some of them."""
    own = tmp_path_factory.mktemp("clone")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, own / name)
    (own / "data").symlink_to(root / "data")
    made = own / "artifacts" / "smoke"
    for experiment, method in STUDENTS:
        weights(made / experiment / method / "seed-0.safetensors", (4, 4, 4) if experiment == FACES else (1, 8, 8))
    latents(made / "latents" / "celebahq")
    (own / "results" / "smoke").mkdir(parents=True)
    tables = own / "results" / "smoke" / "tables"
    shutil.copytree(root / "results" / "laptop" / "tables", tables)
    for path in tables.glob("*.csv"):
        path.write_text(path.read_text().replace(",laptop,", ",smoke,"))
    return own


@pytest.fixture(scope="module")
def students(clone) -> dict[tuple[str, str], Path]:
    """Each student saved once, by experiment and method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        patch.setenv(SCRATCH, str(clone / "scratch"))
        found = {pair: clone / "saved" / "-".join(pair) for pair in STUDENTS}
        for (experiment, method), target in found.items():
            saving.save(saving.chosen(clone, "smoke", experiment, method, 0), target)
    return found


@pytest.fixture
def here(clone, tmp_path, monkeypatch) -> Path:
    """The clone as working folder, with a scratch folder of the test's own."""
    monkeypatch.chdir(clone)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "scratch"))
    return clone


@pytest.fixture
def edited(students, tmp_path):
    """edited(file, **settings): a copy of a student with other settings in a config; None as the file changes nothing."""

    def make(file: str | None = None, student: tuple[str, str] = (PIXELS, "lsd"), **settings) -> Path:
        place = tmp_path / "edited"
        shutil.copytree(students[student], place)
        if file:
            (place / file).write_text(json.dumps(json.loads((place / file).read_text()) | settings))
        return place

    return make


@pytest.fixture(scope="module")
def pipe(students) -> FewStepPipeline:
    found = FewStepPipeline.from_pretrained(students[PIXELS, "lsd"])
    found.set_progress_bar_config(disable=True)
    return found


# The project's own samples

FRESH = """
import json, socket, sys
import numpy as np, torch

def refuse(*given, **named):
    raise AssertionError("the network, or a pickle, was asked")

socket.socket.connect = socket.getaddrinfo = torch.load = refuse
import fewstep.missing_operators
from diffusers import DiffusionPipeline

jobs = json.load(open(sys.argv[1]))
place = jobs[-1][0]
try:
    DiffusionPipeline.from_pretrained(place)
except AttributeError as error:
    print(error)
assert "fewstep.release" not in sys.modules
found = DiffusionPipeline.from_pretrained(place, custom_pipeline=place, trust_remote_code=True)
from fewstep.release import FewStepPipeline, seeded

assert type(found) is FewStepPipeline
pipes = {folder: FewStepPipeline.from_pretrained(folder) for folder, *_ in jobs}
for folder, steps, seed, file in [*jobs, (None, *jobs[-1][1:])]:
    expected, pipe = np.load(file), pipes[folder] if folder else found
    drawn = pipe(num_inference_steps=steps, batch_size=len(expected), generator=seeded(seed), output_type="uint8").images
    assert drawn.dtype == expected.dtype and np.array_equal(drawn, expected), (folder, file)
    print(file)
"""


def test_a_fresh_process_draws_the_projects_samples_bit_for_bit(here, students, tmp_path):
    tier, jobs = experiments.load(here / "params.yaml", "smoke"), []
    for experiment, method in STUDENTS:
        own, made = tier.experiment(experiment), here / "artifacts" / "smoke" / "latents" / "celebahq" if experiment == FACES else None
        plan = own.sampling.model_copy(update={"count": COUNT, "seeds": [0, 2], "steps": {method: list(STEPS)}, "solvers": {}})
        training = own.training.model_copy(update={"seeds": [0]})
        file = here / "artifacts" / "smoke" / experiment / method / "seed-0.safetensors"
        out = tmp_path / experiment / method
        index = sampling.sample_all(own.model_copy(update={"sampling": plan, "training": training}), {(method, 0): file}, out, tier.compute, made)
        jobs += [(str(students[experiment, method]), row.steps, row.sample_seed, str(out / row.file)) for row in index.itertuples()]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    surroundings = os.environ | {"HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", FRESH, str(tmp_path / "jobs.json")], capture_output=True, text=True, cwd=tmp_path, env=surroundings)
    assert done.returncode == 0, done.stderr[-2000:]
    # diffusers' own class finds the pipeline's where it is told to look, and draws the same
    files = [file for *_, file in jobs]
    assert done.stdout.splitlines() == ["module diffusers has no attribute FewStepPipeline", *files, files[-1]] and len(files) == 16
    # a picture that is all black or white would agree with anything
    assert all(0.02 < (np.load(file) % 255 != 0).mean() for file in files)


def test_given_noise_is_started_from_as_it_is(here, pipe):
    settings = experiments.load(here / "params.yaml", "smoke").experiment(PIXELS)
    noise = sampling.noise(settings, 1)[:5]
    drawn = pipe(noise=noise, num_inference_steps=2, output_type="uint8").images
    points = sampling.sample(load_flow_map(here / f"artifacts/smoke/{PIXELS}/lsd/seed-0.safetensors"), "jumps", noise, 2).points
    assert np.array_equal(drawn, ((points + 1) * 8).round().clamp(0, 16).numpy())
    assert np.array_equal(drawn, pipe(batch_size=settings.sampling.count, generator=seeded(1), num_inference_steps=2, output_type="uint8").images[:5])


def test_every_output_holds_the_same_levels(pipe, students):
    faces = FewStepPipeline.from_pretrained(students[FACES, "lmd"])
    for one, top, mode in ((pipe, 16, "L"), (faces, 255, "RGB")):
        drawn = {kind: one(batch_size=3, generator=seeded(0), output_type=kind).images for kind in ("uint8", "np", "pt", "pil")}
        levels = drawn["uint8"]
        assert levels.dtype == np.uint8 and levels.max() <= top and drawn["np"].dtype == np.float32 and drawn["pt"].dtype == torch.float32
        assert np.array_equal((drawn["np"] * top).round().transpose(0, 3, 1, 2), levels) and np.array_equal((drawn["pt"] * top).round(), levels)
        assert [image.mode for image in drawn["pil"]] == [mode] * 3
        pixels = np.stack([np.asarray(image) for image in drawn["pil"]]).reshape(drawn["np"].shape).transpose(0, 3, 1, 2)
        assert np.array_equal(pixels, (levels * (255 / top)).round())
    again = pipe(batch_size=3, generator=seeded(0), output_type="uint8", return_dict=False)
    assert isinstance(again, tuple) and not np.array_equal(again[0], pipe(batch_size=3, generator=seeded(1), output_type="uint8").images)
    assert len(pipe().images) == 1


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"prompt": "a cat"}, "was trained without text: leave `prompt` out"),
        ({"num_inference_steps": 0}, "whole number of steps from 1 on, not 0"),
        ({"num_inference_steps": 1.5}, "whole number of steps from 1 on, not 1.5"),
        ({"batch_size": 0}, "a batch holds one image at least, not 0"),
        ({"output_type": "jpg"}, "one of pil, np, pt, uint8, not 'jpg'"),
        ({"noise": torch.zeros(2, 3, 8, 8)}, r"has shape \(2, 3, 8, 8\), and this student starts from \(count, 1, 8, 8\)"),
        ({"noise": torch.zeros(2, 1, 8, 8), "batch_size": 3}, r"starts from \(3, 1, 8, 8\)"),
    ],
)
def test_what_a_pipeline_cannot_take_is_one_sentence(pipe, asked, said):
    with pytest.raises(ValueError, match=said):
        pipe(**asked)


def test_values_that_are_not_finite_are_no_picture(pipe):
    with pytest.raises(RuntimeError, match="not finite: its training diverged"):
        pipe(noise=torch.full((1, 1, 8, 8), torch.nan))


# The scheduler


class Curved(nn.Module):
    """A network with no symmetry between its times."""

    def forward(self, s, t, x):
        return torch.sin(3 * x) + (s + 2 * t * t)[:, None]


@pytest.mark.parametrize("kind", ["jumps", "euler"])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_scheduler_steps_as_the_sampler_of_its_name(kind, steps):
    start, network, scheduler = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), Curved(), FlowMapScheduler(kind, 0.4)
    scheduler.set_timesteps(steps, "cpu")
    x = start
    for timestep in scheduler.timesteps:
        s, t = (torch.full((50,), time) for time in scheduler.asked_at(timestep))
        x = scheduler.step(network(s, t, scheduler.scale_model_input(x, timestep)), timestep, x).prev_sample
    expected = samplers.SAMPLERS[kind](NetworkFlowMap(network), start, steps)
    assert torch.equal(x, expected.points) and expected.nfe == len(scheduler.timesteps) == scheduler.num_inference_steps
    assert scheduler.init_noise_sigma == 0.4 and scheduler.timesteps[0] == 0
    assert isinstance(scheduler.step(x, 0.0, x, return_dict=False), tuple)


def test_a_time_at_which_no_step_begins_is_refused():
    scheduler = FlowMapScheduler()
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="no step begins at time 0.3: take the times from `timesteps`"):
        scheduler.step(torch.zeros(1), 0.3, torch.zeros(1))
    with pytest.raises(ValueError, match="from 1 on, not 0"):
        scheduler.set_timesteps(0)


def test_a_scheduler_is_stored_and_found_again_and_unknown_settings_are_refused(tmp_path):
    scale = 0.7234567890123456
    FlowMapScheduler("euler", scale).save_pretrained(tmp_path)
    found = FlowMapScheduler.from_pretrained(tmp_path)
    assert (found.config.kind, found.init_noise_sigma) == ("euler", scale)
    with pytest.raises(ValueError, match="FlowMapScheduler has no setting 'beta_start'; it has kind, noise_scale: remove it, or correct its spelling in scheduler_config.json"):
        FlowMapScheduler.from_config(dict(found.config) | {"beta_start": 0.1})
    with pytest.raises(ValueError, match="takes as `kind` 'jumps' or 'euler', not 'heun'"):
        FlowMapScheduler(kind="heun")


def test_another_scheduler_may_take_the_place_of_a_students_own(students, pipe):
    other = FewStepPipeline.from_pretrained(students[PIXELS, "lsd"], scheduler=FlowMapScheduler("euler", pipe.scheduler.init_noise_sigma))
    assert other.scheduler.config.kind == "euler"
    drawn = [one(num_inference_steps=2, batch_size=4, generator=seeded(0), output_type="uint8").images for one in (pipe, other)]
    assert not np.array_equal(*drawn)


# What does not load


@pytest.mark.parametrize(
    "file, settings, said",
    [
        ("scheduler/scheduler_config.json", {"beta": 1}, "FlowMapScheduler has no setting 'beta'"),
        ("flow_map/config.json", {"depth": 1}, "FlowMapModel has no setting 'depth'"),
        ("model_index.json", {"bottom": 3}, "FewStepPipeline has no setting 'bottom'"),
        ("flow_map/config.json", {"settings": NETWORK | {"layer": 2}}, "are no settings of a network .*'layer'"),
        ("flow_map/config.json", {"settings": NETWORK | {"kind": "nope"}}, "there is no network 'nope'"),
        ("flow_map/config.json", {"settings": NETWORK | {"channels": [8, 16]}}, r"of another network than config.json there says \('\S+' is of another shape\)"),
        ("flow_map/config.json", {"settings": NETWORK | {"attention": [False, False]}}, "is in one and not in the other"),
        ("flow_map/config.json", {"shape": [2]}, r"this network is for points of shape \(2,\)"),
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, r"holds a StableDiffusionPipeline and no saved student \(FewStepPipeline\)"),
    ],
)
def test_a_config_that_does_not_fit_is_one_sentence(edited, file, settings, said):
    with pytest.raises(ValueError, match=said):
        FewStepPipeline.from_pretrained(edited(file, **settings))


def test_missing_and_damaged_files_are_one_sentence(edited, tmp_path):
    place, name = edited(student=(FACES, "scflow")), "diffusion_pytorch_model.safetensors"
    whole = (place / "vae" / name).read_bytes()
    for content in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1])):
        (place / "vae" / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=r"vae/\S+ is damaged \(its checksum differs from that in SHA256SUMS\)"):
            FewStepPipeline.from_pretrained(place)
    (place / "vae" / name).unlink()
    with pytest.raises(folder.FolderError, match=f"vae/{name} is not there: copy the folder whole"):
        FewStepPipeline.from_pretrained(place)
    (place / "vae" / name).write_bytes(whole)
    (place / "README.md").unlink()
    FewStepPipeline.from_pretrained(place)
    (place / folder.INDEX).write_text("{")
    with pytest.raises(folder.FolderError, match="cannot be read as JSON"):
        FewStepPipeline.from_pretrained(place)
    (place / folder.INDEX).unlink()
    with pytest.raises(folder.FolderError, match="is no saved student: it holds no model_index.json"):
        FewStepPipeline.from_pretrained(place)
    with pytest.raises(folder.FolderError, match="there is no such folder; .* one on a hub must be downloaded first"):
        FewStepPipeline.from_pretrained("someone/some-student")


def test_a_folder_without_its_checksums_is_refused(edited):
    place = edited()
    (place / folder.SUMS).write_text("nothing\n")
    with pytest.raises(folder.FolderError, match="is no list of checksums and names"):
        FewStepPipeline.from_pretrained(place)
    (place / folder.SUMS).unlink()
    with pytest.raises(folder.FolderError, match="SHA256SUMS is not there"):
        FewStepPipeline.from_pretrained(place)


def test_a_network_that_is_told_a_text_is_refused(monkeypatch):
    class Told(nn.Module):
        def forward(self, s, t, x, conditions):
            return x

    monkeypatch.setattr(networks, "build", lambda settings, shape: NetworkFlowMap(Told()))
    with pytest.raises(ValueError, match="of kind 'told' is told a text, and a pipeline passes none on"):
        FlowMapModel({"kind": "told"}, [1, 8, 8])


# What is written


def test_a_saved_folder_is_safetensors_and_text_with_checksums(students):
    place = students[FACES, "scflow"]
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    name = "diffusion_pytorch_model.safetensors"
    assert files == {
        "model_index.json", "README.md", "pipeline.py", "SHA256SUMS", "flow_map/config.json", f"flow_map/{name}", "scheduler/scheduler_config.json",
        "vae/config.json", f"vae/{name}",
    }  # fmt: skip
    listed = dict(reversed(line.split("  ")) for line in (place / "SHA256SUMS").read_text().splitlines())
    assert listed == {file: autoencoder.checksum(place / file) for file in files - {"SHA256SUMS"}}
    assert json.loads((place / "vae/config.json").read_text())["scaling_factor"] == 0.7
    index = json.loads((place / "model_index.json").read_text())
    assert index["student"] == {
        "experiment": FACES, "method": "scflow", "label": "SCFlow", "tier": "smoke", "seed": 0, "data": "faces", "fingerprint": "0123456789abcdef"
    }  # fmt: skip
    assert (index["bypass"], index["top"], index["flow_map"]) == (True, 255, ["fewstep.release.network", "FlowMapModel"])
    texts = [path.read_text() for path in place.rglob("*") if path.suffix in (".json", ".md", ".py")]
    assert not any(str(place.parent) in text for text in texts), "no folder of this machine"


def test_a_loaded_student_is_stored_again_over_itself_and_over_nothing_else(edited, pipe, tmp_path):
    place = edited()
    pipe.save_pretrained(place)
    assert not (place / "README.md").exists()
    FewStepPipeline.from_pretrained(place)
    (place / "vae").mkdir()
    (place / "vae" / "notes.txt").write_text("mine")
    with pytest.raises(folder.FolderError, match="holds vae/notes.txt, which is no part of a saved student: nothing was written"):
        pipe.save_pretrained(place)
    assert (place / "vae" / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    pipe.save_pretrained(other)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(folder.FolderError, match="file is a file: nothing was written"):
        pipe.save_pretrained(tmp_path / "file")
    # another pipeline of diffusers is somebody's too
    (other / folder.INDEX).write_text('{"_class_name": "DDPMPipeline"}')
    with pytest.raises(folder.FolderError, match="other exists and is no saved student: nothing was written"):
        pipe.save_pretrained(other)


def test_whatever_stops_the_writing_leaves_the_older_student(edited):
    place = edited()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def stopping(fresh: Path) -> None:
        (fresh / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write(place, stopping)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before and list(place.parent.iterdir()) == [place]


# The card


def cells(text: str, name: str) -> dict[tuple[str, str], str]:
    """The cells of the card's table `name` by metric and number of steps."""
    head, _, *lines = text.split(f"tables/{name}.csv:\n\n")[1].split("\n\n")[0].splitlines()
    steps = [cell.strip().removeprefix("N = ") for cell in head.strip("| ").split("|")]
    steps = [n for n in steps if n]
    found = {}
    for line in lines:
        metric, *values = [cell.strip() for cell in line[1:-1].split("|")]
        found |= {(metric, n): value for n, value in zip(steps, values, strict=True) if value}
    return found


@pytest.mark.parametrize("student", STUDENTS)
def test_the_numbers_of_a_card_are_those_of_the_tables(here, students, student):
    experiment, method = student
    text = (students[student] / "README.md").read_text()
    label, shown = json.loads((students[student] / "model_index.json").read_text())["student"]["label"], {}
    for name in re.findall(r"tables/(\S+)\.csv:", text):
        shown[name] = cells(text, name)
    expected: dict[tuple[str, str], str] = {}
    for path in sorted((here / "results/smoke/tables").glob("*.csv"), key=lambda path: path.stem != experiment):
        with path.open() as file:
            for row in csv.DictReader(file):
                if (row["experiment"], row["method"]) == (experiment, label):
                    expected.setdefault((row["metric"], row["nfe"]), row["value"] + (f" ± {row['sd']}" if row["sd"] else ""))
                    assert row["protocol"] in text and f"revision {row['revision']}" in text
    merged = {key: value for own in shown.values() for key, value in own.items()}
    assert len(expected) > 15 and merged == expected and sum(map(len, shown.values())) == len(merged), "no cell twice"
    assert next(iter(shown)) == experiment


def test_a_card_shows_published_numbers_with_their_status(here):
    rows = [row for row in card.tables(saving.chosen(here, "smoke", PIXELS, "lsd", 0).study, "LSD")[PIXELS] if row["metric"] == "FID"]
    rows[0] |= {"published": "8.1", "status": "confirmed"}
    lines = card._grid(rows).splitlines()
    assert lines[0] == "|  | N = 1 | N = 2 | N = 4 | N = 8 | N = 16 |"
    assert lines[2].startswith(f"| FID | {rows[0]['value']} ± ") and lines[3] == "| FID, published | 8.1 (confirmed) |  |  |  |  |"


def test_a_card_says_who_where_and_how_far(here, students):
    text = (students[FACES, "scflow"] / "README.md").read_text()
    for piece in (
        "license: apache-2.0", f"# {FACES}, SCFlow", "tier smoke", "from the teacher `si`", "`faces`, images of 3 x 8 x 8 in 256 levels", "Euler steps",
        "training seed 0", "[arXiv 2412.16906](https://arxiv.org/abs/2412.16906)", "mean nothing but that every part runs", "latents are scaled by 0.7",
        'FewStepPipeline.from_pretrained("scflow-celebahq-scflow")', "num_inference_steps=1", "Apache-2.0",
    ):  # fmt: skip
        assert piece in text, piece
    digits = (students[PIXELS, "lsd"] / "README.md").read_text()
    assert "jumps of the flow map" in digits and "`lsd`, Lagrangian self-distillation: [arXiv 2505.18825]" in digits and "in 17 levels" in digits
    # a teacher of velocities is nothing in one step
    assert re.search(r"num_inference_steps=(\d+)", (students["fmm-cifar10", "si"] / "README.md").read_text())[1] != "1"


def test_the_three_lines_of_a_card_run_as_they_stand(students, monkeypatch, tmp_path):
    place = students[PIXELS, "lsd"]
    code = (place / "README.md").read_text().split("```python\n")[1].split("```")[0].replace('"one.png"', repr(str(tmp_path / "one.png")))
    monkeypatch.chdir(place.parent)
    exec(compile(code, "README.md", "exec"), {})
    with Image.open(tmp_path / "one.png") as found:
        assert found.size == (8, 8)


def test_a_card_without_a_table_says_so(here):
    choice = saving.chosen(here, "smoke", PIXELS, "lsd", 0)
    for path in (here / "results/smoke/tables").glob("*.csv"):
        assert card.tables(choice.study, "LSD") and not card.tables(choice.study, "no such method")
    (here / "results/smoke/tables").rename(here / "results/smoke/elsewhere")
    try:
        said = card.numbers(choice.study, "lsd", 0)
    finally:
        (here / "results/smoke/elsewhere").rename(here / "results/smoke/tables")
    assert said == ["No table of results/smoke/tables holds this method: nothing was measured that could stand here."]


def test_every_objective_names_a_paper(root):
    assert {name: bool(re.fullmatch(r"\d{4}\.\d{5}", card.paper(name))) for name in objectives.names()} == dict.fromkeys(objectives.names(), True)
    for tier in experiments.TIERS:
        for experiment in experiments.load(root / "params.yaml", tier).experiments.values():
            assert all("https://arxiv.org/abs/" in line for method in experiment.methods.values() for line in card.papers(method))
    assert set(card.LIMITS) == set(experiments.TIERS)


# The command line


def run(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    """The exit status of `python -m fewstep`, and what it says."""
    monkeypatch.setattr(sys, "argv", ["fewstep", *map(str, words)])
    status = __main__.main()
    said = capsys.readouterr()
    return status, said.err if status else said.out


def test_a_student_is_saved_and_a_picture_drawn(here, monkeypatch, capsys, tmp_path, pipe):
    asked = ("save", "--experiment", PIXELS, "--method", "lsd", "--tier", "smoke")
    status, said = run(monkeypatch, capsys, *asked)
    place = tmp_path / "scratch" / "smoke" / "students" / f"{PIXELS}-lsd-seed-0"
    assert status == 0 and f"python -m fewstep sample {place}" in said
    assert run(monkeypatch, capsys, *asked)[0] == 0, "over itself"
    # outside a clone, where people who only want pictures are
    monkeypatch.chdir(tmp_path)
    status, said = run(monkeypatch, capsys, "sample", place, "--steps", "2", "--count", "5", "--seed", "1", "--to", tmp_path / "new" / "five.png")
    assert status == 0 and f"shows 5 images: LSD of {PIXELS}, N = 2, sampling seed 1" in said
    with Image.open(tmp_path / "new" / "five.png") as found:
        pixels = np.asarray(found)
    assert pixels.shape == (2 * 66 - 2, 3 * 66 - 2)
    for k, image in enumerate(pipe(num_inference_steps=2, batch_size=5, generator=seeded(1)).images):
        top, left = k // 3 * 66, k % 3 * 66
        assert np.array_equal(pixels[top : top + 64, left : left + 64], np.asarray(image).repeat(8, 0).repeat(8, 1))
    assert (pixels[66:, 2 * 66 :] == 255).all()
    assert run(monkeypatch, capsys, "sample", place)[0] == 0 and run(monkeypatch, capsys, "sample", place)[0] == 0
    assert (tmp_path / "picture.png").is_file()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"--experiment": "nothing"}, "there is no experiment 'nothing'; there are"),
        ({"--method": "nothing"}, "there is no method 'nothing' in this experiment; there are lsd"),
        ({"--tier": "nothing"}, "there is no tier 'nothing'"),
        ({"--seed": "99"}, f"'{PIXELS}' is trained from the seeds 0.* at tier 'smoke', and not from 99"),
        ({"--method": "esd"}, "esd/seed-0.safetensors is not there: run `dvc repro` at tier 'smoke'"),
        ({"--experiment": "selfdistill-checkerboard"}, "models points in the plane, which make no pictures; a pipeline draws images: .*scflow-celebahq"),
    ],
)
def test_a_student_that_is_not_there_is_one_sentence(here, monkeypatch, capsys, tmp_path, changes, said):
    words = {"--experiment": PIXELS, "--method": "lsd", "--tier": "smoke", "--to": tmp_path / "to"} | changes
    status, found = run(monkeypatch, capsys, "save", *(word for pair in words.items() for word in pair))
    assert status == 1 and re.search(said, found) and found.count("\n") == 1 and not (tmp_path / "to").exists()


def test_a_destination_of_somebody_else_is_left_alone(here, students, monkeypatch, capsys, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    status, said = run(monkeypatch, capsys, "save", "--experiment", PIXELS, "--method", "lsd", "--tier", "smoke", "--to", mine)
    assert status == 1 and said == f"fewstep: {mine} exists and is no saved student: nothing was written; name another folder\n"
    Image.new("L", (3, 3)).save(mine / "photo.png")
    (mine / "text.png").write_text("mine")
    before = {path: path.read_bytes() for path in mine.iterdir()}
    for name, words in (("photo.png", "was not written by `python -m fewstep sample`"), ("text.png", "was not written by"), ("a.jpg", "does not end with .png")):
        status, said = run(monkeypatch, capsys, "sample", students[PIXELS, "lsd"], "--to", mine / name)
        assert status == 1 and words in said and said.count("\n") == 1
    assert {path: path.read_bytes() for path in mine.iterdir()} == before


@pytest.mark.parametrize("words, said", [(["--steps", "0"], "from 1 on, not 0"), (["--steps", "-2"], "from 1 on, not -2"), (["--count", "0"], "one image at least")])
def test_nothing_is_drawn_in_no_steps(students, monkeypatch, capsys, tmp_path, words, said):
    status, found = run(monkeypatch, capsys, "sample", students[PIXELS, "lsd"], *words, "--to", tmp_path / "no.png")
    assert status == 1 and said in found and found.count("fewstep: ") == 1 and not (tmp_path / "no.png").exists()


def test_a_folder_that_is_no_student_is_one_sentence(monkeypatch, capsys, tmp_path):
    status, found = run(monkeypatch, capsys, "sample", tmp_path)
    assert status == 1 and found == f"fewstep: {tmp_path} is no saved student: it holds no model_index.json; `python -m fewstep save` writes one\n"


def test_pictures_lie_side_by_side_and_large_ones_stay_as_they_are():
    images = [Image.new("RGB", (80, 70), (k, 0, 0)) for k in range(3)]
    whole = picture.sheet(images)
    assert whole.size == (162, 142) and [whole.getpixel(at) for at in ((0, 0), (82, 0), (0, 72), (82, 72), (80, 0))] == [
        (0, 0, 0), (1, 0, 0), (2, 0, 0), (255, 255, 255), (255, 255, 255)
    ]  # fmt: skip
