"""The command line, `fewstep` or `python -m fewstep`: one function a command, which imports what it runs."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .settings.names import MOST_SEED, MOST_STEPS, ZOO, check_name, check_tier
from .storage.workspace import Workspace, find_root


def _data(root: Path, _: argparse.Namespace) -> None:
    from .data.export import export
    from .pipeline import dvc

    dvc.allow_no_git(root)
    dvc.keep_locks(root)
    dvc.remove_cut_rwlock(root)
    written = export(root)
    print(f"data/ agrees with data.dvc ({len(written)} files written)")


def _check(root: Path, arguments: argparse.Namespace) -> None:
    from .data.export import export
    from .pipeline.phases import require_same_experiments, write_settings
    from .pipeline.stages import plan
    from .rehearsal.missing import missing_files
    from .settings import tiers

    tier = arguments.tier or tiers.read(root / "params.yaml")["tier"]
    settings = tiers.load(root / "params.yaml", tier)
    # a rehearsal's tree has no stages of its own, and other data
    if stages := plan(root, tier):
        export(root)
        require_same_experiments([*stages, *plan(root, tier, ZOO)], settings)
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
    write_atomically(path, tiers.select(path, arguments.tier).encode("utf-8"))
    print(f"the tier is now {arguments.tier}")


def _settings(root: Path, arguments: argparse.Namespace) -> None:
    from .settings import tiers

    path = root / "params.yaml"
    print(tiers.show(tiers.load(path, arguments.tier or tiers.read(path)["tier"]), arguments.name), end="")


def _readme(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.report import write_readme

    write_readme(root)
    print("README.md has the results of tier overnight, or of laptop where that was not run")


def _run(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.notebooks import run

    words = arguments.notebook, arguments.experiment, arguments.data, arguments.folder
    run(Workspace(root, arguments.tier), *words)


def _publish(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.report import publish

    publish(Workspace(root, arguments.tier), arguments.mixed, arguments.folder)


def _repro(root: Path, arguments: argparse.Namespace) -> None:
    from .pipeline.repro import repro

    repro(root, arguments.experiment, arguments.folder)


def _claims(_: Path, arguments: argparse.Namespace) -> None:
    from .evaluation.compare import report

    print(report(*arguments.compare))


def _rehearse(root: Path, arguments: argparse.Namespace) -> None:
    import signal

    import torch

    from .rehearsal.rehearse import rehearse

    # whoever ends the rehearsal ends the stage that it waits for
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    rehearse(root, device, arguments.stages)


def _preflight(root: Path, arguments: argparse.Namespace) -> None:
    from .rehearsal.preflight import preflight
    from .settings import tiers

    preflight(root, arguments.tier, tiers.load(root / "params.yaml", arguments.tier))


def _fetch(_: Path, arguments: argparse.Namespace) -> None:
    from .rehearsal.fetch import fetch

    fetch(arguments.names, arguments.yes and not arguments.list)


def _imported(module: str, name: str) -> Callable[[Path, argparse.Namespace], None]:
    """The function `name` of a module of this package, which is imported when it is called."""
    return lambda *arguments: getattr(import_module(f"{__package__}.{module}"), name)(*arguments)


# what words of commands may be, wherever they stand: names, or numbers in a range
NAMES = {"tier": check_tier, **dict.fromkeys(("notebook", "experiment", "data", "method"), check_name)}
NUMBERS = {"steps": (1, MOST_STEPS), "count": (1, 1024), "seed": (0, MOST_SEED), "heads": (1, 1024)}


def _check_words(given: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the word, for a name or a number that there cannot be."""
    for key, word in given.items():
        least, most = NUMBERS.get(key, (0, 0))
        if key in NUMBERS and word is not None and not least <= word <= most:
            raise ValueError(f"--{key} is a whole number from {least} to {most:,}, not {word}")
        try:
            if key in NAMES and word is not None:
                NAMES[key](word)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words of a command as every other error is said, in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (`{self.prog} --help` says what there is)")


def _parser() -> argparse.ArgumentParser:
    about = "Few-step generative models, from formula to table."
    parser = _Parser("fewstep", description=about)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, action: Callable, about: str, anywhere: bool = False) -> Callable[..., None]:
        """What adds an argument to the command; `anywhere`: whether that runs outside of a clone."""
        found = commands.add_parser(name, help=about, description=about)
        found.set_defaults(action=action, anywhere=anywhere)
        return lambda name, about=None, **options: found.add_argument(name, help=about, **options)

    command("data", _data, "fill data/ from the installed packages and verify it against data.dvc")
    add = command("check", _check, "validate params.yaml before anything runs")
    add("--tier", "the tier to check (default: the one that params.yaml selects)")
    add("--settings", "a folder for what each stage depends on, one file a phase", type=Path)
    add = command("settings", _settings, "print what params.yaml comes to for an experiment, in full")
    add("name", "an experiment, tour, features/NAME, latents/NAME or clip/NAME")
    add("--tier", "at which tier (default: the one that params.yaml selects)")
    command("tier", _tier, "select a tier in params.yaml")("tier")
    command("readme", _readme, "bring the results in README.md up to date with those of tier overnight")
    add = command("run", _run, "execute a notebook as a stage of the pipeline")
    add("notebook")
    add("--tier", required=True)
    add("--experiment")
    add("--data", "the data set that is prepared")
    own = "of the pipeline beside the main one whose dvc.yaml lies in this folder, which is zoo"
    beside: dict[str, Any] = {"choices": ("", ZOO), "default": "", "metavar": "FOLDER"}
    add("--folder", own, **beside)
    add = command("publish", _publish, "put the results of a tier together under results/")
    add("--tier", required=True)
    mixed = "also tables of several revisions or machines; the report says so on top"
    add("--mixed", mixed, action="store_true")
    add("--folder", own, **beside)
    add = command("repro", _repro, "rebuild the results with DVC, an experiment after the other")
    add("--experiment", "one experiment alone, up to its own notebooks (default: all, with the report)")
    add("--folder", own, **beside)
    moved = "say which verdicts and cells differ between two results folders, and by how much"
    add, two = command("claims", _claims, moved, anywhere=True), "such as results/laptop of two clones"
    add("--compare", two, nargs=2, type=Path, metavar="FOLDER", required=True)
    small = "run every stage of tier paper in small, in artifacts/rehearsal, before it is run in earnest"
    add = command("rehearse", _rehearse, small)
    add("stages", "these, and what they need (default: all)", nargs="*", metavar="stage")
    add("--device", "where to compute (default: a GPU if there is one)", choices=("cpu", "cuda"))
    lacks = "say what a tier lacks on this machine, and how long it will train and sample"
    add = command("preflight", _preflight, lacks)
    add("--tier", "the tier to look ahead to (default: paper)", default="paper")
    gets = "list data and weights that tier paper needs, and fetch them where they have a public address"
    add = command("fetch", _fetch, gets)
    add("names", "which of them (default: all are listed)", nargs="*", metavar="name")
    add("--yes", "fetch them: nothing asks the network without this", action="store_true")
    add("--list", "list alone, whatever else is said", action="store_true")

    lfm = "turn the published checkpoint of Latent Flow Matching into a flow map of this library"
    add = command("convert-lfm", _imported("networks.published.lfm", "command"), lfm)
    add("source", "the published file, celeba_f8_adm's model_480.pth", type=Path)
    add("target", "the flow map to write, a safetensors file", type=Path)
    add("--heads", "those of every attention (default: 4, of 128 channels)", type=int, default=4)
    unet = "turn the published text-to-image UNet of InstaFlow, or of SCFlow, into a flow map of this library"
    add = command("convert-instaflow", _imported("networks.published.instaflow", "command"), unet)
    add("source", "the published folder, with config.json and the weights", type=Path)
    add("target", "the flow map to write, a safetensors file", type=Path)

    as_pipeline = "save a trained student as a pipeline of diffusers, with its model card"
    add = command("save", _imported("release.commands", "save"), as_pipeline)
    add("--experiment", required=True)
    add("--method", required=True)
    add("--tier", "the tier that it was trained at (default: laptop)", default="laptop")
    add("--seed", "the training seed (default: 0)", type=int, default=0)
    add("--to", "the folder to write (default: one of the tier's scratch folder)", type=Path)
    shows = "write the students that come with the clone anew, from the results of a tier"
    command("showcase", _imported("release.commands", "showcase"), shows)("--tier", required=True)
    draws = "draw a picture from a saved student"
    add = command("sample", _imported("release.commands", "sample"), draws, anywhere=True)
    add("folder", "what `save` has written, or the name of a student in students/", type=Path)
    drawn = "what to draw, for a student conditioned on captions; repeat it for more images"
    add("--prompt", drawn, action="append", metavar="TEXT")
    add("--steps", "each a network call, or two under guidance (default: 1)", type=int, default=1)
    scale = "the scale of classifier-free guidance; 1 is none (default: that of the student's own table)"
    add("--guidance", scale, type=float, metavar="W")
    add("--count", "how many images (default: 16, or one for each of several prompts)", type=int)
    add("--seed", "the sampling seed, as in the project's tables (default: 0)", type=int, default=0)
    add("--to", "the PNG to write (default: picture.png)", type=Path, default=Path("picture.png"))
    return parser


def run(words: Sequence[str]) -> None:
    """Run one command; raises ValueError, RuntimeError or OSError, with a sentence, where it cannot."""
    arguments = _parser().parse_args(words)
    _check_words(vars(arguments))
    root = Path.cwd() if arguments.anywhere else find_root()
    if "DVC_STAGE" in os.environ:
        from .pipeline import dvc

        dvc.exit_with_dvc()
        dvc.keep_locks(root, patience=3.0)
    arguments.action(root, arguments)


def main() -> int:
    """Run one command; what went wrong is one sentence on stderr and exit status 1."""
    # a terminal that is not UTF-8 shows what it cannot as an escape
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        run(sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:
        print(f"fewstep: {error}", file=sys.stderr)
    except MemoryError as error:
        lacking = str(error) or "ask for less at a time"
        print(f"fewstep: there is not enough memory: {lacking}", file=sys.stderr)
    except KeyboardInterrupt:
        print("fewstep: stopped; the next run goes on from what is on the disk", file=sys.stderr)
        return 130
    else:
        return 0
    return 1
