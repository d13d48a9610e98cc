"""From what params.yaml says to the settings of one tier, as plain values: by the five rules at its top."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from .base import listed

TOUR, OTHERS, TIERS = "tour", "others", ("tiers",)
# the tier's section of what a text after `network` or `optimiser` names; `terms` are for all tiers
NAMED = {"network": "networks", "optimiser": "optimisers"}

Place = tuple[str | int, ...]
Section = Mapping[str, Any]


def dotted(place: Place) -> str:
    return ".".join(map(str, place))


class Unresolved(Exception):
    """A place of the settings of a tier, and a sentence that says what is wrong there."""


def merge(under: Any, over: Any) -> Any:
    """`over` upon `under`: mappings key by key, all else replaced."""
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return over
    return {**under, **{key: merge(under[key], own) if key in under else own for key, own in over.items()}}


def _without_nulls(owner: Section) -> dict[str, Any]:
    kept = {key: own for key, own in owner.items() if own is not None}
    return {key: _without_nulls(own) if isinstance(own, Mapping) else own for key, own in kept.items()}


def _entry(entries: Section, name: Any, place: Place) -> Any:
    if not isinstance(name, str) or name not in entries:
        raise Unresolved(place, f"there is no '{name}'; {listed(entries)}")
    return entries[name]


def _keys(owner: Section, key: str, place: Place) -> dict[str, Any]:
    value = {} if owner.get(key) is None else owner[key]
    if not isinstance(value, Mapping):
        raise Unresolved((*place, key), f"this must hold keys, and is {value!r}")
    return dict(value)


def _like(entries: Section, name: str, place: Place, above: tuple[str, ...] = ()) -> Any:
    """The entry `name` of the section at `place`, upon the entry that its `like` names."""
    own, where = entries[name], (*place, name, "like")
    if not isinstance(own, Mapping) or "like" not in own:
        return own
    if name in above:
        raise Unresolved(where, f"{' is like '.join([*above, name])}: break the circle")
    _entry(entries, own["like"], where)
    under = _like(entries, own["like"], place, (*above, name))
    return merge(under, {key: value for key, value in own.items() if key != "like"})


def _section(entries: Section, place: Place) -> dict[str, Any]:
    return {name: _like(entries, name, place) for name in entries}


def _experiment(own: Section, named: Mapping[str, Section], place: Place) -> dict[str, Any]:
    """An experiment with what its training and methods name by a text, and what is for all its methods."""
    training, sampling = _keys(own, "training", place), _keys(own, "sampling", place)
    below = (*place, "methods")
    methods = _section(_keys(own, "methods", place), below)
    steps = {"steps": training.pop("steps")} if "steps" in training else {}
    for key in ("steps", "samplers"):
        said = _keys(sampling, key, (*place, "sampling"))
        if OTHERS in said:
            sampling[key] = dict.fromkeys(methods, said.pop(OTHERS)) | said
    full = {name: steps | _keys(methods, name, below) for name in methods}
    for where, owner in (((*place, "training"), training), *(((*below, name), full[name]) for name in full)):
        for key, value in owner.items():
            if key in named and isinstance(value, str):
                owner[key] = _entry(named[key], value, (*where, key))
    return {**own, "training": training, "methods": full, "sampling": sampling}


def resolve(file: Section, tier: str) -> dict[str, Any]:
    """The settings of `tier`: compute, tour, features, latents, clip and experiments, each in full.

    Raises Unresolved for a name that names nothing, and for entries like each other.
    """
    sizes, every, place = _like(file["tiers"], tier, TIERS), file["experiments"], ("experiments",)
    sizes = {"experiments": {}, **sizes}
    keys = (*NAMED.values(), "features", "latents", "clip")
    sections = {key: _section(sizes.get(key, {}), (key,)) for key in keys}
    named = {"terms": file.get("terms", {}), **{key: sections.pop(name) for key, name in NAMED.items()}}
    for name in sizes["experiments"]:
        _entry(every, name, place)
    merged = {name: merge(what, sizes["experiments"].get(name, {})) for name, what in every.items()}
    own = {name: _like(merged, name, place) for name in every if name in sizes["experiments"]}
    for name, experiment in own.items():
        if "students_of" in experiment:
            other = experiment["students_of"]
            trained = _entry(own, other, (*place, name, "students_of"))
            inherited = {key: _keys(trained, key, (*place, other)) for key in ("training", "methods")}
            own[name] = merge(inherited, experiment)
    experiments = {name: _experiment(what, named, (*place, name)) for name, what in own.items()}
    tour = {TOUR: experiments.pop(TOUR)} if TOUR in experiments else {}
    return _without_nulls({"compute": sizes.get("compute"), **tour, **sections, "experiments": experiments})


def where(file: Section, tier: str, place: Place) -> str:
    """The dotted key of params.yaml that says what stands at `place` in the settings of `tier`."""
    place = ("experiments", *place) if place[:1] == (TOUR,) else place
    if place[:1] == TIERS:
        return dotted(place)
    like: list[Place] = []
    tiers, own = [tier], file["tiers"][tier].get("like")
    while own in file["tiers"] and own not in tiers:
        tiers.append(own)
        own = file["tiers"][own].get("like")
    for start in (*((*TIERS, name) for name in tiers), ()):
        path, at = (*start, *place), file
        for n, key in enumerate(path):
            entry = isinstance(at, Mapping) and n > len(start)
            if entry and key not in at and isinstance(at.get("like"), str):
                like.append((*path[: n - 1], at["like"], *path[n:])[len(start) :])
            if not (key in at if isinstance(at, Mapping) else isinstance(at, list) and key in range(len(at))):
                break
            at = at[key]
            section = ("terms",) if key == "terms" else (*TIERS, tiers[-1], NAMED.get(key, ""))
            if isinstance(at, str) and at in reduce(lambda owner, part: owner.get(part, {}), section, file):
                return dotted((*section, at, *path[n + 1 :]))
        else:
            return dotted(path)
    if not like and place[2:3] == ("methods",) and place[4:] == ("steps",):
        like.append((*place[:2], "training", "steps"))
    return where(file, tier, like[0]) if like else dotted(("tiers", tier, *place))


def as_file(settings: Section, tier: str) -> dict[str, Any]:
    """What params.yaml would hold for the settings of `tier` alone: what `resolve` takes back to them."""
    every = {TOUR: settings[TOUR], **settings["experiments"]}
    sizes = {key: value for key, value in settings.items() if key not in (TOUR, "experiments")}
    sizes["experiments"] = {name: {} for name in every}
    return {"tier": tier, "terms": {}, "experiments": every, "tiers": {tier: sizes}}
