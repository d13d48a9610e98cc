"""The command line, `fewstep` or `python -m fewstep`: one function a command, which imports what it runs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .storage.workspace import Workspace, find_root


def _data(root: Path, _: argparse.Namespace) -> None:
    from .data.export import export

    written = export(root)
    print(f"data/ agrees with data.dvc ({len(written)} files written)")


def _check(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.stages import plan, require_same_experiments, write_settings
    from .rehearsal.preflight import missing_files
    from .settings import tiers

    tier = arguments.tier or tiers.read(root / "params.yaml")["tier"]
    settings = tiers.load(root / "params.yaml", tier)
    # a rehearsal's tree has no stages of its own
    if stages := plan(root, tier):
        require_same_experiments(stages, settings)
    if settings.compute.device == "cuda":
        from .training.processes import require_cuda

        require_cuda(settings.processes)
    print(f"params.yaml is valid: {', '.join(settings.experiments)}")
    # said, and no reason to stop: the stages that do without these can run
    for sentence in missing_files(settings, checksums=False):
        print(f"missing: {sentence}")
    if arguments.settings:
        write_settings(settings, arguments.settings)


def _tier(root: Path, arguments: argparse.Namespace) -> None:
    from .settings import tiers
    from .storage.files import write_atomically

    # a link stays one
    path = (root / "params.yaml").resolve()
    write_atomically(path, tiers.select(path, arguments.tier).encode())
    print(f"the tier is now {arguments.tier}")


def _settings(root: Path, arguments: argparse.Namespace) -> None:
    from .settings import tiers

    path = root / "params.yaml"
    print(tiers.show(tiers.load(path, arguments.tier or tiers.read(path)["tier"]), arguments.name), end="")


def _readme(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.report import refresh_readme
    from .storage.files import write_atomically

    path = root / "README.md"
    write_atomically(path, refresh_readme(root, path.read_text()).encode())
    print("the results in README.md are those of results/laptop")


def _run(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.notebooks import run
    from .training.lifetime import exit_with_parent

    # a stage that outlived a killed `dvc repro` would write beside the one that takes its place
    if "DVC_STAGE" in os.environ:
        exit_with_parent(os.getppid())
    run(Workspace(root, arguments.tier), arguments.notebook, arguments.experiment, arguments.data)


def _publish(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.report import publish

    publish(Workspace(root, arguments.tier))


def _rehearse(root: Path, arguments: argparse.Namespace) -> None:
    import signal

    import torch

    from .rehearsal.rehearse import rehearse

    # whoever ends the rehearsal ends the stage that it waits for
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rehearse(
        root,
        arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        arguments.stages,
        arguments.resume,
    )


def _preflight(root: Path, arguments: argparse.Namespace) -> None:
    from .rehearsal.preflight import preflight
    from .settings import tiers

    settings = tiers.load(root / "params.yaml", arguments.tier)
    preflight(root, arguments.tier, settings, arguments.quick, not arguments.no_times)


def _convert_lfm(root: Path, arguments: argparse.Namespace) -> None:
    from .networks.published import lfm

    lfm.command(root, arguments)


def _convert_instaflow(root: Path, arguments: argparse.Namespace) -> None:
    from .networks.published import instaflow

    instaflow.command(root, arguments)


def _save(root: Path, arguments: argparse.Namespace) -> None:
    from .release import commands

    commands.save(root, arguments)


def _sample(root: Path, arguments: argparse.Namespace) -> None:
    from .release import commands

    commands.sample(root, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fewstep", description="Few-step generative models, from formula to table."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, action, help: str, anywhere: bool = False) -> argparse.ArgumentParser:
        """`anywhere`: whether it runs outside a clone of the repository."""
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(action=action, anywhere=anywhere)
        return command

    add("data", _data, "fill data/ from the installed packages and verify it against data.dvc")
    check = add("check", _check, "validate params.yaml before anything runs")
    check.add_argument("--tier", help="the tier to check (default: the one that params.yaml selects)")
    check.add_argument(
        "--settings", type=Path, help="a folder for the settings that each stage depends on, one file a phase"
    )
    settings = add("settings", _settings, "print what params.yaml comes to for an experiment, in full")
    settings.add_argument("name", help="an experiment, tour, features/NAME, latents/NAME or clip/NAME")
    settings.add_argument("--tier", help="at which tier (default: the one that params.yaml selects)")
    add("tier", _tier, "select a tier in params.yaml").add_argument("tier")
    add("readme", _readme, "bring the results in README.md up to date with results/laptop")
    run = add("run", _run, "execute a notebook as a stage of the pipeline")
    run.add_argument("notebook")
    run.add_argument("--tier", required=True)
    run.add_argument("--experiment")
    run.add_argument("--data", help="the data set that is prepared")
    add("publish", _publish, "put the results of a tier together under results/").add_argument(
        "--tier", required=True
    )
    rehearse = add(
        "rehearse",
        _rehearse,
        "run every stage of tier paper in small, in artifacts/rehearsal, before it is run in earnest",
    )
    rehearse.add_argument(
        "stages", nargs="*", metavar="stage", help="rehearse these stages and what they need (default: all)"
    )
    rehearse.add_argument(
        "--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU if there is one)"
    )
    rehearse.add_argument("--resume", action="store_true", help="keep what an earlier rehearsal finished")
    preflight = add(
        "preflight", _preflight, "say what a tier lacks on this machine, and how long its stages will take"
    )
    preflight.add_argument("--tier", default="paper", help="the tier to look ahead to (default: paper)")
    preflight.add_argument(
        "--quick", action="store_true", help="time small batches, and scale them in proportion"
    )
    preflight.add_argument(
        "--no-times", action="store_true", help="measure nothing, and only say what is missing"
    )
    convert = add(
        "convert-lfm",
        _convert_lfm,
        "turn the published checkpoint of Latent Flow Matching into a flow map of this library",
    )
    convert.add_argument("source", type=Path, help="the published file, celeba_f8_adm's model_480.pth")
    convert.add_argument("target", type=Path, help="the flow map to write, a safetensors file")
    convert.add_argument(
        "--head-channels",
        type=int,
        help="the channels of an attention head (default: 4 heads, 128 channels each, as trained)",
    )
    convert = add(
        "convert-instaflow",
        _convert_instaflow,
        "turn the published text-to-image UNet of InstaFlow, or of SCFlow, into a flow map of this library",
    )
    convert.add_argument(
        "source",
        type=Path,
        help="the published folder in diffusers' format, with config.json and the weights",
    )
    convert.add_argument("target", type=Path, help="the flow map to write, a safetensors file")
    save = add("save", _save, "save a trained student as a pipeline of diffusers, with its model card")
    save.add_argument("--experiment", required=True)
    save.add_argument("--method", required=True)
    save.add_argument("--tier", default="laptop", help="the tier that it was trained at (default: laptop)")
    save.add_argument("--seed", type=int, default=0, help="the training seed (default: 0)")
    save.add_argument(
        "--to", type=Path, help="the folder to write (default: one of the tier's scratch folder)"
    )
    sample = add("sample", _sample, "draw a picture from a saved student", anywhere=True)
    sample.add_argument("folder", type=Path, help="what `save` has written")
    texts = sample.add_mutually_exclusive_group()
    texts.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="what to draw, for a student conditioned on captions; repeat it for more images",
    )
    texts.add_argument(
        "--prompts", type=Path, metavar="FILE", help="the same from a UTF-8 file with one prompt a line"
    )
    sample.add_argument(
        "--steps",
        type=int,
        default=1,
        help="steps for an image, one network call each and two under guidance (default: 1)",
    )
    sample.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="the scale of classifier-free guidance; 1 is none (default: that of the student's own table)",
    )
    sample.add_argument(
        "--count", type=int, help="how many images (default: 16, or one a prompt where there are several)"
    )
    sample.add_argument(
        "--seed", type=int, default=0, help="the sampling seed, as in the project's tables (default: 0)"
    )
    sample.add_argument(
        "--to", type=Path, default=Path("picture.png"), help="the PNG to write (default: picture.png)"
    )
    return parser


def main() -> int:
    """Run one command; what went wrong is one sentence on stderr and exit status 1."""
    arguments = _parser().parse_args()
    try:
        arguments.action(Path.cwd() if arguments.anywhere else find_root(), arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"fewstep: {error}", file=sys.stderr)
        return 1
    return 0
