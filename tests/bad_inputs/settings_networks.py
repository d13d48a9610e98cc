"""params.yaml: networks that do not fit together or their data, and what is measured on what."""

import json

from .case import Case
from .settings import CORRECTION, IMAGES, POINTS, POSITIVE, TEXT, TEXTS, TIER, UNET, changed, params

ADM = {"kind": "adm", "width": 32, "multipliers": [1, 2], "blocks": 1, "attention": [2], "heads": 4}
EDM2 = {"kind": "edm2", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [2], "data_std": 0.5}
SMALL = json.loads(params())["tiers"]["smoke"]["networks"]["unet"]


def _networks() -> list[Case]:
    """Networks that do not fit together, or not to their data."""
    adm = f"{TIER}.networks.unet"
    return [
        changed("groups that do not divide", f"{UNET}.groups", 3, r"must be divisible by `groups` 3"),
        changed("heads that do not divide", f"{TEXT}.heads", 3, r"must be divisible by `heads` 3"),
        changed("zero groups", f"{UNET}.groups", 0, rf"unet\.groups: .*{POSITIVE}0"),
        changed("a network that predicts noise", f"{UNET}.predicts", "noise", r"unet\.predicts: .*'data'"),
        changed("captions and data", f"{TEXT}.predicts", "data", r"predicts"),
        changed(
            "attention of another length",
            f"{UNET}.attention",
            [False],
            r"one entry of `attention` for each of the 2 .*not 1",
        ),
        changed(
            "an odd first width",
            UNET,
            SMALL | {"channels": [9, 8], "groups": 1},
            r"first of `channels` must be even",
        ),
        changed(
            "levels that do not halve",
            UNET,
            SMALL | {"channels": [8] * 5, "attention": [False] * 5},
            r"halve the image 4 times, and 8 x 8 is not divisible by 16",
        ),
        changed(
            "heads of a UNet that do not divide",
            UNET,
            SMALL | {"channels": [8, 12], "attention": [True, False]},
            r"heads of 8 channels must divide the widths that attend, \[8, 12\]",
        ),
        changed(
            "a UNet for points",
            f"{POINTS}.training.network",
            "unet",
            r"networks of kind unet take images, and the data are points .*give an mlp",
        ),
        changed(
            "an MLP for images",
            f"{IMAGES}.training.network",
            "points",
            r"an mlp takes points, and the data are images .*give a unet",
        ),
        changed(
            "an ADM of an odd width",
            adm,
            ADM | {"width": 33},
            r"`width` 33 of an adm must be divisible by its 32 groups",
        ),
        changed(
            "an ADM that attends nowhere",
            adm,
            ADM | {"attention": [3]},
            r"`attention` names 3 times smaller images",
        ),
        changed(
            "heads of an ADM", adm, ADM | {"heads": 5}, r"64 channels attend, and `heads` 5 does not divide"
        ),
        changed("an EDM2 of an odd width", adm, EDM2 | {"width": 9}, r"`width` 9 of an edm2 must be even"),
        changed(
            "heads of an EDM2", adm, EDM2 | {"width": 100}, r"200 channels attend, .*change `width` or `multi"
        ),
        changed("an EDM2 that attends nowhere", adm, EDM2 | {"attention": [8]}, r"names 8 times smaller"),
        changed("an EDM2 of data of no spread", adm, EDM2 | {"data_std": 0}, r"data_std: .*0"),
        changed(
            "an EDM2 whose averaged weights are evaluated",
            f"{TIER}.networks.unet",
            EDM2,
            r"`methods\.\w+` evaluates averaged weights in training, and an edm2 would change them: take",
        ),
        changed(
            "an EDM2 whose levels do not halve",
            f"{IMAGES}.training.network",
            EDM2 | {"multipliers": [1] * 5},
            r"5 levels of kind edm2 halve the image 4 times",
        ),
        changed(
            "a text that its heads do not divide",
            f"{TEXT}.width",
            17,
            r"`text_layers` need a `width` divisible by the 2 heads",
        ),
        changed(
            "a discriminator of too many levels",
            f"{CORRECTION}.adversarial.channels",
            [8] * 7,
            r"7 discriminator `channels` of '\w+' lead from 256 x 256",
        ),
        changed(
            "a head that its groups do not divide",
            f"{TEXTS}.methods.scflow.self_correction.adversarial.head",
            12,
            r"`head` 12 must be divisible by its 8 groups",
        ),
        changed(
            "a released discriminator without a head",
            f"{CORRECTION}.adversarial.released",
            True,
            r"`released` is of a discriminator with a `head`: give one, or remove it",
        ),
        changed(
            "a released head that its groups do not divide",
            f"{TEXTS}.methods.scflow.self_correction.adversarial",
            {"weight": 0.2, "lr": 0.001, "r1": 0, "head": 40, "released": True},
            r"`head` 40 must be divisible by its 32 groups",
        ),
        changed("no level of time", f"{CORRECTION}.time_levels", 0, r"time_levels: .*0"),
        changed("a network that is a list", f"{POINTS}.training.network", [1], r"training\.network: .*"),
    ]


def _measures() -> list[Case]:
    """What is measured, on what, and how much of it there is."""
    metrics = "experiments.fmm-cifar10.metrics"
    return [
        changed(
            "a repeated measure",
            f"{metrics}.measures",
            ["fid", "fid"],
            r"metrics\.measures: 'fid' stands there twice",
        ),
        changed("no measure", f"{metrics}.measures", [], r"metrics\.measures: .*at least 1 item"),
        changed(
            "measures of points for images",
            "experiments.fmm-imagenet32.metrics",
            {"features": None, "reference": None, "measures": ["kl"], "bins": 20},
            r"'fmm-imagenet32' models images, and 'kl' does not measure",
        ),
        changed(
            "a teacher that is exact",
            f"{POINTS}.metrics.reference",
            {"method": "exact", "steps": 16},
            r"`metrics\.reference` is 'exact', which is not a method",
        ),
        changed(
            "a table with a row twice",
            "experiments.scflow-coco2017.tables.scflow-coco2017",
            ["si", "si"],
            r"tables\.scflow-coco2017: 'si' stands there twice",
        ),
        changed(
            "an empty table",
            "experiments.scflow-coco2017.tables.scflow-coco2017",
            [],
            r"tables\.scflow-coco2017: .*at least 1 item",
        ),
        changed(
            "one table of two experiments",
            "experiments.scflow-coco2014.tables",
            {"scflow-coco2017": ["si"]},
            r"both fill the table 'scflow-coco2017'",
        ),
        changed(
            "more latents than images",
            f"{TIER}.latents.celebahq.count",
            8001,
            r"celebahq: `count` asks for 8001 images, and 'faces' has 8000: lower",
        ),
        changed(
            "no more samples than features",
            f"{IMAGES}.sampling.count",
            64,
            r"'fid' takes more than 64 images",
        ),
        changed(
            "no more pictures than features",
            f"{TIER}.features.imagenet32.reference",
            64,
            r"'fid' takes more than 64 images",
        ),
        changed(
            "a classifier of what has no classes",
            f"{TIER}.features.cifar10.data",
            "cifar10",
            r"'cifar10' has no classes .*take `extractor: inception`",
        ),
        changed(
            "features of points",
            f"{TIER}.features.cifar10.data",
            "checkerboard",
            r"this is a data set of images, and 'checkerboard' is none",
        ),
        changed(
            "speed without FID",
            f"{metrics}.measures",
            ["kid", "precision"],
            r"`speed` compares rows at their FID",
        ),
    ]


def _sensitivity() -> list[Case]:
    """The two methods whose FID is measured by other protocols too."""
    faces, points = (f"experiments.{name}.metrics" for name in ("scflow-celebahq", "fmm-checkerboard"))
    key = f"{faces}.sensitivity"
    return [
        changed("one method alone", key, ["lmd"], r"sensitivity: .*at least 2 items"),
        changed("one method twice", key, ["lmd", "lmd"], r"sensitivity: 'lmd' stands there twice"),
        changed("a method of none", key, ["lmd", "emd"], r"sensitivity` names 'emd', which is not a method"),
        changed(
            "no common step",
            key,
            ["si", "adversarial"],
            r"si and adversarial: draw both in one number of step",
        ),
        changed("points", f"{points}.sensitivity", ["lmd", "emd"], r"FID depends .*: add the measure 'fid'"),
    ]


def cases() -> list[Case]:
    """All of them."""
    return [*_networks(), *_measures(), *_sensitivity()]
