"""Saved students draw the project's own samples up to rounding, in a fresh process and in several threads."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from fewstep.evaluation import prompts, sample
from fewstep.networks import load_flow_map
from fewstep.release import FewStepPipeline, saving, seeded
from fewstep.settings import tiers

from .students import COUNT, FACES, PIXELS, STEPS, STUDENTS, TEXTS, trained

FRESH = """
import json, socket, sys
import numpy as np, torch

def refuse(*given, **named):
    raise AssertionError("the network, or a pickle, was asked")

socket.socket.connect = socket.getaddrinfo = torch.load = refuse
import fewstep.networks.torchvision_operators
from diffusers import DiffusionPipeline

jobs = json.load(open(sys.argv[1]))
ends = [jobs[0], jobs[-1]]
found = {}
for place, *_ in ends:
    try:
        DiffusionPipeline.from_pretrained(place)
    except AttributeError as error:
        print(error)
assert "fewstep.release" not in sys.modules
for place, *_ in ends:
    found[place] = DiffusionPipeline.from_pretrained(place, custom_pipeline=place, trust_remote_code=True)
from fewstep.release import FewStepPipeline, seeded

assert all(type(pipe) is FewStepPipeline for pipe in found.values())
pipes = {folder: FewStepPipeline.from_pretrained(folder) for folder, *_ in jobs}
for where, job in [*((pipes, job) for job in jobs), *((found, job) for job in ends)]:
    folder, steps, seed, file, asked = job
    expected = np.load(file)
    asked |= {"batch_size": len(expected), "generator": seeded(seed), "output_type": "uint8"}
    drawn = where[folder](num_inference_steps=steps, **asked).images
    assert drawn.dtype == expected.dtype and drawn.shape == expected.shape
    # points differ by rounding, and of a point between two levels either is right
    apart = np.abs(drawn.astype(int) - expected)
    assert apart.max() <= 1 and (apart > 0).mean() <= 1e-4, (folder, file, apart.max(), (apart > 0).mean())
    print(file)
"""


def test_a_fresh_process_draws_the_projects_samples(here, students, tmp_path, monkeypatch):
    jobs = []
    for name, method in STUDENTS:
        experiment = saving.find(here, "smoke", name, method, 0).experiment
        own, solvers = experiment.settings, {method: {"guided-3": [2]}} if name == TEXTS else {}
        plan = own.sampling.model_copy(
            update={
                "count": COUNT,
                "seeds": [2] if solvers else [0, 2],
                "steps": {method: list(STEPS)},
                "solvers": solvers,
            }
        )
        training = own.training.model_copy(update={"seeds": [0]})
        experiment = replace(
            experiment,
            settings=own.model_copy(update={"sampling": plan, "training": training}),
            compute=experiment.compute.model_copy(update={"workers": 1}),  # starting processes takes longer
        )
        file = here / "artifacts/smoke" / trained(name, method)
        out = tmp_path / name / method
        assert file.is_file()
        # of all methods only these were trained here
        own_file = trained(name, method)
        monkeypatch.setattr(sample.training_weights, "weights_file", lambda *_, file=own_file: file)
        index = sample.draw(experiment)
        shutil.copytree(experiment.workspace.write(f"samples/{name}"), out)
        captions = prompts.prepare(experiment, out) if name == TEXTS else None
        for row in index.itertuples():
            said = {"prompt": prompts.texts(captions)} if captions else {}
            # the scale of a student's own row is its own; that of any other row is asked for
            said |= {"guidance_scale": 3.0} if row.sampler == "guided-3" else {}
            jobs.append((str(students[name, method]), row.steps, row.sample_seed, str(out / row.file), said))
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    surroundings = os.environ | {"HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "jobs.json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=surroundings,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # diffusers' own class finds the pipeline's where it shall look, and draws the same
    files = [file for *_, file, _ in jobs]
    assert (
        done.stdout.splitlines()
        == ["module diffusers has no attribute FewStepPipeline"] * 2 + [*files, files[0], files[-1]]
        and len(files) == 22
    )
    assert len({np.load(file).tobytes() for file in files}) == len(files)
    # a picture that is all black or white would agree with anything
    assert all(0.02 < (np.load(file) % 255 != 0).mean() for file in files)


def test_given_noise_is_started_from_as_it_is(here, pipe):
    settings = tiers.load(here / "params.yaml", "smoke").experiment(PIXELS)
    noise = sample.noise(settings, 1)[:5]
    drawn = pipe(noise=noise, num_inference_steps=2, output_type="uint8").images
    points = sample.sample(
        load_flow_map(here / "artifacts/smoke" / trained(PIXELS, "lsd")), "jumps", noise, 2
    ).points
    assert np.array_equal(drawn, ((points + 1) * 8).round().clamp(0, 16).numpy())
    assert np.array_equal(
        drawn,
        pipe(
            batch_size=settings.sampling.count,
            generator=seeded(1),
            num_inference_steps=2,
            output_type="uint8",
        ).images[:5],
    )


def test_every_output_holds_the_same_levels(pipe, students):
    faces = FewStepPipeline.from_pretrained(students[FACES, "lmd"])
    for one, top, mode in ((pipe, 16, "L"), (faces, 255, "RGB")):
        drawn = {
            kind: one(batch_size=3, generator=seeded(0), output_type=kind).images
            for kind in ("uint8", "np", "pt", "pil")
        }
        levels = drawn["uint8"]
        assert (
            levels.dtype == np.uint8
            and levels.max() <= top
            and drawn["np"].dtype == np.float32
            and drawn["pt"].dtype == torch.float32
        )
        assert np.array_equal((drawn["np"] * top).round().transpose(0, 3, 1, 2), levels) and np.array_equal(
            (drawn["pt"] * top).round(), levels
        )
        assert [image.mode for image in drawn["pil"]] == [mode] * 3
        pixels = (
            np.stack([np.asarray(image) for image in drawn["pil"]])
            .reshape(drawn["np"].shape)
            .transpose(0, 3, 1, 2)
        )
        assert np.array_equal(pixels, (levels * (255 / top)).round())
    again = pipe(batch_size=3, generator=seeded(0), output_type="uint8", return_dict=False)
    assert isinstance(again, tuple) and not np.array_equal(
        again[0], pipe(batch_size=3, generator=seeded(1), output_type="uint8").images
    )
    assert len(pipe().images) == 1


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"prompt": "a cat"}, "was trained without text: leave `prompt` out"),
        ({"prompt": [""]}, "was trained without text: leave `prompt` out"),
        (
            {"guidance_scale": 1.5},
            "without text, and guidance compares texts: leave `guidance_scale` at 1, not 1.5",
        ),
        ({"num_inference_steps": 0}, "`num_inference_steps` is a whole number from 1 to 10,000, not 0"),
        ({"num_inference_steps": 1.5}, "from 1 to 10,000, not 1.5"),
        ({"batch_size": 0}, "`batch_size` is a whole number from 1 to 100,000, not 0"),
        ({"num_inference_steps": True}, "from 1 to 10,000, not True"),
        ({"num_inference_steps": 10**9}, "from 1 to 10,000, not 1000000000"),
        ({"batch_size": 2.0}, "from 1 to 100,000, not 2.0"),
        ({"noise": np.zeros((2, 1, 8, 8))}, "is a tensor of finite floats, not ndarray: torch.as_tensor"),
        ({"noise": torch.zeros(2, 1, 8, 8).int()}, "is a tensor of finite floats, not torch.int32"),
        ({"noise": torch.full((1, 1, 8, 8), torch.nan)}, "is a tensor of finite floats"),
        ({"generator": 0}, "is a torch.Generator, or a list with one an image, not 0"),
        ({"generator": []}, "or a list with one an image, not"),
        ({"generator": [seeded(0), seeded(1)], "batch_size": 3}, "2 generators do not go with 3 images"),
        ({"generator": [seeded(0), seeded(1), seeded(2)], "batch_size": 2}, "3 generators do not go with 2"),
        ({"output_type": "jpg"}, "one of pil, np, pt, uint8, not 'jpg'"),
        (
            {"noise": torch.zeros(2, 3, 8, 8)},
            r"has shape \(2, 3, 8, 8\), and this student starts from \(count, 1, 8, 8\)",
        ),
        ({"noise": torch.zeros(2, 1, 8, 8), "batch_size": 3}, r"starts from \(3, 1, 8, 8\)"),
    ],
)
def test_what_a_pipeline_cannot_take_is_one_sentence(pipe, asked, said):
    with pytest.raises(ValueError, match=said):
        pipe(**asked)


def test_values_that_are_not_finite_are_no_picture(pipe):
    with pytest.raises(RuntimeError, match="not finite: its training diverged"):
        pipe(noise=torch.full((1, 1, 8, 8), 1e38), num_inference_steps=9)


def test_the_components_alone_decide_the_images(students):
    """What diffusers advises for several pipelines of the same weights."""
    for student in STUDENTS:
        pipe = FewStepPipeline.from_pretrained(students[student])
        asked = {"batch_size": 3, "num_inference_steps": 2, "output_type": "uint8"}
        asked |= {"prompt": "a red circle"} if student[0] == TEXTS else {}
        again = FewStepPipeline(**pipe.components)
        drawn = [one(generator=seeded(0), **asked).images for one in (pipe, again)]
        assert np.array_equal(*drawn), student


def test_one_pipeline_draws_the_same_images_in_several_threads(students, pipe, conditional):
    jobs = [
        (pipe, None, 1, 0),
        (pipe, None, 5, 1),
        (pipe, None, 3, 0),
        (conditional, "a red circle", 2, 0),
        (conditional, "x", 4, 1),
    ]

    def draw(job) -> bytes:
        one, prompt, steps, seed = job
        return one(prompt, steps, batch_size=4, generator=seeded(seed), output_type="uint8").images.tobytes()

    before = torch.get_num_threads()
    expected = [draw(job) for job in jobs]
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(draw, jobs * 4))
    assert found == expected * 4 and torch.get_num_threads() == before


def test_a_list_of_generators_is_one_an_image(pipe, conditional):
    def drawn(one, *given, **asked) -> np.ndarray:
        return one(*given, output_type="uint8", **asked).images

    both = drawn(pipe, generator=[seeded(3), seeded(4)])
    assert len(both) == 2 and np.array_equal(both[1:], drawn(pipe, generator=seeded(4)))
    assert np.array_equal(both, drawn(pipe, generator=[seeded(3), seeded(4)], batch_size=np.int64(2)))
    # one in a list is like one alone
    assert np.array_equal(
        drawn(pipe, generator=[seeded(3)], batch_size=3), drawn(pipe, generator=seeded(3), batch_size=3)
    )
    assert len(drawn(conditional, "a red circle", generator=[seeded(0), seeded(1)])) == 2
    with pytest.raises(ValueError, match="3 generators do not go with 2 images: give one for all of them"):
        conditional(["a", "b"], generator=[seeded(k) for k in range(3)])


def test_whole_numbers_of_numpy_are_whole_numbers(pipe):
    found = [
        pipe(num_inference_steps=kind(2), batch_size=kind(3), generator=seeded(0), output_type="uint8").images
        for kind in (int, np.int64, np.uint8)
    ]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_a_sampling_seed_has_a_stream_of_its_own():
    for seed in (-1, 2**32, 2**63, 1.0, "0"):
        with pytest.raises(ValueError, match="whole number from 0 to 4,293,967,292, not"):
            seeded(seed)
    first = {torch.randn(4, generator=seeded(seed)).numpy().tobytes() for seed in (0, 1, 4_293_967_292)}
    assert len(first) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_draws_nearly_the_same_images(students, dtype):
    for student in ((PIXELS, "lsd"), (FACES, "scflow"), (TEXTS, "si")):
        asked = {"batch_size": 2, "num_inference_steps": 2, "output_type": "uint8"}
        asked |= {"prompt": "a red circle"} if student[0] == TEXTS else {}
        whole = FewStepPipeline.from_pretrained(students[student])
        half = FewStepPipeline.from_pretrained(students[student], torch_dtype=dtype)
        assert half.flow_map.dtype == dtype and whole.flow_map.dtype == torch.float32
        expected = whole(generator=seeded(0), **asked).images.astype(int)
        found = half(generator=seeded(0), **asked).images
        assert np.abs(found - expected).mean() < 0.05 * whole.flow_map.config.top
        # the same by diffusers' own way
        again = whole.to(dtype)(generator=seeded(0), **asked).images
        assert np.abs(again - expected).mean() < 0.05 * whole.flow_map.config.top


def test_a_student_can_be_offloaded_pickled_and_stored_by_torch(students, tmp_path):
    for student in ((PIXELS, "lsd"), (TEXTS, "si")):
        pipe = FewStepPipeline.from_pretrained(students[student])
        assert set(pipe.model_cpu_offload_seq.split("->")) == {"text_encoder", "flow_map", "vae"}
        again = pickle.loads(pickle.dumps(pipe))
        torch.save(pipe.flow_map, tmp_path / "whole.pt")
        again.flow_map = torch.load(tmp_path / "whole.pt", weights_only=False)
        said = ["a red circle"] if student[0] == TEXTS else []
        drawn = [one(*said, generator=seeded(0), output_type="uint8").images for one in (pipe, again)]
        assert np.array_equal(*drawn)


def test_parts_of_another_student_are_refused_when_they_are_put_in(students):
    pipe = FewStepPipeline.from_pretrained(students[FACES, "scflow"])
    with pytest.raises(ValueError, match="takes a FlowMapEulerDiscreteScheduler, and no DDIMScheduler"):
        pipe.scheduler = DDIMScheduler()
    pipe.vae = None
    with pytest.raises(ValueError, match="draws in latents of 4 channels: give it the `vae`"):
        pipe()
