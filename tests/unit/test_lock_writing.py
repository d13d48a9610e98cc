"""The dvc.lock that DVC writes with the help of fewstep.pipeline.dvc, byte for byte as it does without."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from dvc import dvcfile
from dvc.utils.serialize import modify_yaml

from fewstep.pipeline import dvc

ROOT = Path(__file__).parents[2]
FRESH = {
    "cmd": "python -m fewstep run 9-new --tier smoke --experiment a-name-beyond-one-line-of-eighty",
    "deps": [{"path": "src: one", "hash": "md5", "md5": "0123456789", "size": 12, "isexec": True}],
    "params": {"params.yaml": {"tier": "smoke", "rate": 0.001, "off": None, "list": [1, 2], "none": []}},
    "outs": [{"path": "artifacts/ä", "md5": "12e3", "size": 0}],
}


@pytest.fixture
def quick(monkeypatch):
    """DVC's way of changing a dvc.lock, with this project's help."""
    monkeypatch.setattr(dvcfile, "modify_yaml", dvcfile.modify_yaml)
    dvc.write_locks_quickly()
    return dvcfile.modify_yaml


def added(stages):
    stages["new@smoke-name"] = FRESH


def changed(stages):
    name = list(stages)[3]
    stages.update({name: stages[name] | {"cmd": "another"}})


def removed(stages):
    del stages[list(stages)[0]]


def moved(stages):
    """The same stage again, with the same values in another order."""
    name = list(stages)[1]
    stages[name] = dict(reversed(list(stages[name].items())))


def both(path: Path, modify, quick) -> tuple[str, str]:
    """The text after `modify` has changed the lock in `path` by DVC alone, and with help."""
    texts, text = [], path.read_text(encoding="utf-8") if path.exists() else None
    for way in (modify_yaml, quick):
        if text is not None:
            path.write_text(text, encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
        with way(str(path)) as lock:
            modify(lock)
        texts.append(path.read_text(encoding="utf-8"))
    return texts[0], texts[1]


@pytest.mark.parametrize("change", [added, changed, removed, moved, lambda stages: None])
def test_a_lock_has_the_bytes_that_dvc_alone_would_write(tmp_path, quick, change):
    # the longest at once, for it takes DVC alone two seconds
    name = "dvc.lock" if change is changed else "zoo/dvc.lock"
    path = tmp_path / "dvc.lock"
    path.write_bytes((ROOT / name).read_bytes())
    alone, helped = both(path, lambda lock: change(lock["stages"]), quick)
    assert helped == alone


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\nstages:\n  'a: b':\n    cmd: one\n",
        "schema: '2.0'\nstages:\n  a: {cmd: one}\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: one\ndatasets:\n- name: b\n",
    ],
)
def test_a_lock_of_another_layout_is_left_to_dvc(tmp_path, quick, text):
    path = tmp_path / "dvc.lock"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    alone, helped = both(path, lambda lock: lock.setdefault("stages", {}).update(new=FRESH), quick)
    assert helped == alone and "9-new" in helped


def test_other_files_of_dvc_are_left_to_it(tmp_path, monkeypatch):
    seen = []

    @contextmanager
    def by_dvc(path, fs=None):
        seen.append(Path(path).name)
        yield {}

    monkeypatch.setattr(dvcfile, "modify_yaml", by_dvc)
    dvc.write_locks_quickly()
    path = tmp_path / "dvc.yaml"
    path.write_bytes((ROOT / "zoo" / "dvc.lock").read_bytes())
    with dvcfile.modify_yaml(str(path)):
        pass
    assert seen == ["dvc.yaml"]


def test_a_lock_is_not_touched_where_its_change_fails(tmp_path, quick):
    path = tmp_path / "dvc.lock"
    path.write_bytes(before := (ROOT / "zoo" / "dvc.lock").read_bytes())
    with pytest.raises(RuntimeError), quick(str(path)) as lock:
        added(lock["stages"])
        raise RuntimeError
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["dvc.lock"]
