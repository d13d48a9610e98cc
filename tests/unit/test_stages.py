"""How a stage runs: by its own interpreter, over private sockets, until its DVC ends; and dvc.lock."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import nbformat
import pytest

from fewstep.evaluation import provenance
from fewstep.pipeline import dvc, notebooks
from fewstep.storage import files
from fewstep.storage.workspace import Workspace

TIMEOUT = 120


def tree(folder: Path, cell: str) -> Path:
    """A root with one notebook, `own`, of a parameter and `cell`."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in ("tier = ''", cell)]
    )
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (folder / "notebooks").mkdir(parents=True)
    nbformat.write(notebook, folder / "notebooks" / "own.ipynb")
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).write_text("{}\n", encoding="utf-8")
    return folder


def environment(**own: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FEWSTEP_", "DVC_", "JUPYTER_"))}
    return kept | {"FEWSTEP_WARM": "0"} | own


WORDS = [sys.executable, "-m", "fewstep", "run", "own", "--tier", "smoke"]


def printed(root: Path) -> dict:
    executed = nbformat.read(root / "artifacts/smoke/notebooks/own.ipynb", as_version=4)
    return json.loads(executed.cells[-1].outputs[0].text)


SAYS = """import json, os, sys; from ipykernel.connect import get_connection_file
said = {"python": sys.executable, "here": os.listdir("."), "kernel": json.load(open(get_connection_file()))}
print(json.dumps(said))"""


@pytest.mark.parametrize("where, transport", [("short", "ipc"), ("long" * 30, "tcp")])
def test_a_stage_runs_its_own_interpreter_over_private_sockets(tmp_path, where, transport):
    """Whatever JUPYTER_PATH offers; where no socket can lie, over the loopback."""
    root, spec = tree(tmp_path / "root", SAYS), tmp_path / "share" / "kernels" / "python3"
    spec.mkdir(parents=True)
    other = {"argv": ["false", "{connection_file}"], "display_name": "another", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(other), encoding="utf-8")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        (temporary := Path(short, where)).mkdir()
        own = environment(JUPYTER_PATH=str(tmp_path / "share"), TMPDIR=str(temporary))
        done = subprocess.run(WORDS, cwd=root, env=own, capture_output=True, text=True, timeout=TIMEOUT)
        assert not list(temporary.iterdir())
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = printed(root)
    assert said["python"] == sys.executable and said["here"] == ["own.ipynb"]
    assert said["kernel"]["transport"] == transport
    assert said["kernel"]["ip"].startswith(str(temporary)) or said["kernel"]["ip"] == "127.0.0.1"


def test_what_a_killed_stage_left_is_cleared_by_the_next_and_nothing_else(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    root, temporary = tree(tmp_path / "root", SAYS), tmp_path / "tmp"
    for name in (f"{dead.pid}.tmp", f"{os.getpid()}.tmp"):
        (temporary / f"{notebooks.FOLDER}x.{name}").mkdir(parents=True)
        (temporary / f"{notebooks.FOLDER}x.{name}" / "kernel-1").touch()
    written = root / "artifacts/smoke/notebooks"
    written.mkdir(parents=True)
    left = [written / f".own.ipynb.{pid}.tmp" for pid in (dead.pid, os.getpid())]
    for path in [*left, written / f".other.ipynb.{dead.pid}.tmp"]:
        path.touch()
    subprocess.run(WORDS, cwd=root, env=environment(TMPDIR=str(temporary)), check=True, timeout=TIMEOUT)
    assert [path.name for path in temporary.iterdir()] == [f"{notebooks.FOLDER}x.{os.getpid()}.tmp"]
    assert [path.exists() for path in left] == [False, True]
    assert (written / f".other.ipynb.{dead.pid}.tmp").exists()


def begun(root: Path, words: list[str], **own: str) -> subprocess.Popen:
    """A process that runs the notebook, whose cell has begun: it creates a file."""
    # a suite in the background of a shell ignores Ctrl-C, and so would what it starts
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    how = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True, "preexec_fn": heard}
    process = subprocess.Popen(words, cwd=root, env=environment(**own), **how)
    limit = time.monotonic() + TIMEOUT
    while not (root / "begun").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert (root / "begun").exists(), process.communicate()[1]
    return process


SLEEPS = """import os, time
open("../begun", "w").write(f"{os.getppid()} {os.getpid()}"); time.sleep(300)"""


def test_a_stage_that_is_stopped_says_so_in_one_line(tmp_path):
    process = begun(tree(tmp_path / "root", SLEEPS), WORDS)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert said == "fewstep: stopped; the next run goes on from what is on the disk\n"


def test_a_stage_ends_with_the_dvc_that_runs_it_and_not_only_with_the_shell_between(tmp_path):
    root = tree(tmp_path / "root", SLEEPS)
    shell = f"{' '.join(WORDS)}; true"
    runs = f"import os, subprocess as s; s.run({shell!r}, shell=True, env={{**os.environ, 'DVC_STAGE': 'x'}})"
    process = begun(root, [sys.executable, "-c", runs])
    stage, kernel = map(int, (root / "begun").read_text(encoding="utf-8").split())
    process.kill()
    process.communicate()
    limit = time.monotonic() + 10
    while time.monotonic() < limit and any(Path(f"/proc/{pid}").exists() for pid in (stage, kernel)):
        time.sleep(0.05)
    assert not Path(f"/proc/{stage}").exists() and not Path(f"/proc/{kernel}").exists()


def test_a_stage_whose_dvc_has_ended_before_it_could_look_ends_at_once(tmp_path):
    runs = "import os, sys, time\nif os.fork(): os._exit(0)\ntime.sleep(0.5)\n"
    runs += "from fewstep.pipeline import dvc\ndvc.exit_with_dvc()\nopen('went on', 'w')"
    words = [sys.executable, "-c", f"import os\nif os.fork(): os._exit(0)\nos.setsid()\n{runs}"]
    subprocess.run(words, cwd=tmp_path, env=environment(DVC_STAGE="x"), check=True)
    time.sleep(2)
    assert not (tmp_path / "went on").exists()


def test_what_cannot_be_written_is_said_before_anything_is_computed(tmp_path):
    root = tree(tmp_path / "root", "open('../begun', 'w')")
    (root / "results").touch()
    with pytest.raises(OSError, match="Not a directory; nothing was computed.*results'"):
        notebooks.run(Workspace(root, "smoke"), "own")
    assert not (root / "begun").exists() and not (root / "artifacts").exists()


def test_a_full_disk_is_named_and_keeps_no_private_folder(tmp_path, monkeypatch):
    def full(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    root = tree(tmp_path / "root", "")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("papermill.execute_notebook", full)
    monkeypatch.setattr("os.environ", dict(os.environ))
    with pytest.raises(OSError, match=rf"own.ipynb: No space left on device; .*/{notebooks.FOLDER}"):
        notebooks.run(Workspace(root, "smoke"), "own")
    assert not list((tmp_path / "tmp").iterdir()) and not list((root / "artifacts").rglob("*.ipynb"))


def lock(**stages: str) -> str:
    """A dvc.lock of these stages, by the checksums of what they make."""
    entries = "".join(
        f"  {name}@smoke:\n    cmd: fewstep {name}\n    outs:\n    - path: {name}\n      md5: {code}\n"
        for name, code in stages.items()
    )
    return f"schema: '2.0'\nstages:\n{entries}"


@pytest.fixture
def locked(tmp_path) -> Path:
    (tmp_path / "dvc.lock").write_text(lock(check="aaa", tour="bbb", publish="ccc"), encoding="utf-8")
    dvc.keep_locks(tmp_path)
    return tmp_path


def test_a_cut_lock_is_restored_wherever_it_was_cut(locked, capsys):
    path = locked / "dvc.lock"
    before = path.read_text(encoding="utf-8")
    for following in (before, lock(check="aaa", tour="ddd", publish="ccc")):
        for end in range(len(following)):
            path.write_text(following[:end], encoding="utf-8")
            dvc.keep_locks(locked)
            # of a lock that changed before the cut, its last stage may lack lines: DVC runs that one again
            whole = following[:end].endswith("\n") and "publish@smoke:" in following[:end]
            left = whole and not before.startswith(following[:end])
            assert path.read_text(encoding="utf-8") == (following[:end] if left else before), following[:end]
            path.write_text(before, encoding="utf-8")
            dvc.keep_locks(locked)
    assert "was cut by a killed run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "now",
    [
        lock(check="aaa", tour="ddd", publish="ccc"),
        lock(check="aaa", tour="bbb", publish="ddd"),
        lock(check="aaa", tour="bbb", publish="ccc", more="ddd"),
        lock(check="aaa", other="bbb"),
        lock(tour="bbb"),
    ],
)
def test_a_lock_that_dvc_has_written_is_kept_as_it_is(locked, now):
    (locked / "dvc.lock").write_text(now, encoding="utf-8")
    dvc.keep_locks(locked)
    assert (locked / "dvc.lock").read_text(encoding="utf-8") == now
    assert (locked / "artifacts/locks/dvc.lock").read_text(encoding="utf-8") == now


def test_a_lock_that_another_dvc_is_just_writing_is_waited_for(locked, capsys):
    path, now = locked / "dvc.lock", lock(check="aaa", tour="bbb", publish="ccc", more="ddd")
    path.write_text(now[:40], encoding="utf-8")
    timer = threading.Timer(0.2, lambda: path.write_text(now, encoding="utf-8"))
    timer.start()
    dvc.keep_locks(locked, patience=5.0)
    timer.join()
    assert path.read_text(encoding="utf-8") == now and not capsys.readouterr().err


@pytest.mark.parametrize("cut", ["", '{"read": {"data": [{"pid"', "\x00\xff"])
def test_a_cut_list_of_what_dvcs_are_at_is_removed_and_a_whole_one_kept(tmp_path, cut, capsys):
    """DVC rewrites it in place, and every run after a kill in between would stop at it."""
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    dvc.remove_cut_rwlock(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(cut, encoding="latin-1")
    dvc.remove_cut_rwlock(tmp_path, patience=0.1)
    assert not path.exists() and "cut by a killed run" in capsys.readouterr().err
    path.write_text('{"write": {}, "read": {}}', encoding="utf-8")
    dvc.remove_cut_rwlock(tmp_path)
    assert path.exists() and not capsys.readouterr().err


def test_what_another_dvc_is_just_writing_is_waited_for(tmp_path):
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text("", encoding="utf-8")
    timer = threading.Timer(0.2, lambda: path.write_text("{}", encoding="utf-8"))
    timer.start()
    dvc.remove_cut_rwlock(tmp_path, patience=5.0)
    timer.join()
    assert path.read_text(encoding="utf-8") == "{}"


def test_a_lock_deleted_on_purpose_stays_away_and_one_without_a_copy_is_said_to_be_cut(locked):
    path = locked / "dvc.lock"
    path.unlink()
    dvc.keep_locks(locked)
    path.write_text(lock(check="aaa"), encoding="utf-8")
    dvc.keep_locks(locked)
    assert path.read_text(encoding="utf-8") == lock(check="aaa")
    path.unlink()
    dvc.keep_locks(locked)
    path.write_text("", encoding="utf-8")
    with pytest.raises(dvc.LockError, match="dvc.lock is cut.*`git checkout dvc.lock`, or delete it"):
        dvc.keep_locks(locked)


def test_a_tree_without_git_is_run_without_and_says_which_commit_it_was(tmp_path):
    (tmp_path / ".dvc").mkdir()
    dvc.allow_no_git(tmp_path)
    assert "no_scm = true" in (tmp_path / ".dvc/config.local").read_text(encoding="utf-8")
    assert provenance.revision(tmp_path) == "unversioned"
    stamp = tmp_path / ".git_archival.txt"
    stamp.write_text("node: $Format:%H$\n", encoding="utf-8")
    assert provenance.revision(tmp_path) == "unversioned"
    stamp.write_text("node: 0123456789abcdef0123456789abcdef01234567\n", encoding="utf-8")
    assert provenance.revision(tmp_path) == "0123456789ab (archive)"
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".dvc/config.local").unlink()
    dvc.allow_no_git(tmp_path)
    assert not (tmp_path / ".dvc/config.local").exists()
    assert provenance.revision(tmp_path) == "0123456789ab (archive)", "another's repository around it"


def test_files_are_replaced_whole_or_not_at_all_and_nobody_elses(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "foreign.json").write_text("{}", encoding="utf-8")
    files.replace_files(tmp_path, {"a/1": b"1", "b/2": b"2"})
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files.read_written(tmp_path) == {"a/1": b"1", "b/2": b"2"}
    original = files.write_atomically

    def full(path: Path, content: bytes) -> None:
        if path.name == "3":
            raise OSError(28, "No space left on device", str(path))
        original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            files.replace_files(tmp_path, {"a/1": b"another", "3": b"3"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first
    files.replace_files(tmp_path, {"a/1": b"another"})
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"a/1", "a/foreign.json", files.LIST}
    # a list that names what lies elsewhere removes nothing there
    (tmp_path / "b" / "2").write_bytes(b"mine")
    names = {"../b/2": "", str(tmp_path / "b" / "2"): "", "1": ""}
    (tmp_path / "a" / files.LIST).write_text(json.dumps(names), encoding="utf-8")
    files.replace_files(tmp_path / "a", {"x": b""})
    assert (tmp_path / "b" / "2").read_bytes() == b"mine" and not (tmp_path / "a" / "1").exists()
