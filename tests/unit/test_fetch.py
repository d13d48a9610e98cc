"""`fewstep fetch`: what it says, what it leaves alone, and that its table agrees with what is read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fewstep import cli, data
from fewstep.data import cifar10, coco
from fewstep.data.formats.archives import ENVIRONMENT, folder_of
from fewstep.metrics import features
from fewstep.rehearsal import download, fetch
from fewstep.rehearsal.download import FetchError
from fewstep.settings import tiers
from fewstep.storage import stand_in
from fewstep.training import published_weights
from tests.file_server import CONTENT, MD5, Server, serve, zipped


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serve() as own:
        yield own


def table(monkeypatch, tmp_path: Path, content: dict) -> None:
    """Put `content` in the place of fetch.yaml, and the data sets below `tmp_path`."""
    (tmp_path / "fetch.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(fetch, "TABLE", tmp_path / "fetch.yaml")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "data"))


def test_what_is_there_is_not_fetched_again_and_another_file_is_not_replaced(
    server, tmp_path, monkeypatch, capsys
):
    server.files["/set.zip"] = zipped({"set/1.jpg": b"one", "set/2.jpg": b"two"})
    files = [{"from": "file", "checksum": MD5}, {"from": "set.zip", "unpack": "set", "holds": 2}]
    table(monkeypatch, tmp_path, {"own": {"about": "ours", "base": server.address, "files": files}})
    for _ in range(2):
        fetch.fetch(["own"], yes=True)
        assert server.asked == [("/file", None), ("/set.zip", None)]
    folder = tmp_path / "data" / "own"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {
        "file", "set", "set/1.jpg", "set/2.jpg",
    }  # fmt: skip
    assert f"{folder / 'set'} is there" in capsys.readouterr().out
    (folder / "file").write_bytes(b"mine")
    with pytest.raises(
        FetchError, match=r"own/file is another file \(md5:\w+ instead of md5:\w+\): move it away"
    ):
        fetch.fetch(["own"], yes=True)
    assert (folder / "file").read_bytes() == b"mine" and len(server.asked) == 2
    (folder / "file").write_bytes(CONTENT)
    (folder / "set" / "2.jpg").unlink()
    with pytest.raises(FetchError, match=r"own/set holds 1 files instead of 2: move it away"):
        fetch.fetch(["own"], yes=True)
    stand_in.mark(folder)
    with pytest.raises(FetchError, match="holds a rehearsal's files"):
        fetch.fetch(["own"], yes=True)


def test_an_archive_that_was_fetched_and_not_unpacked_is_checked_and_unpacked(server, tmp_path, monkeypatch):
    content = zipped({"set/1.jpg": b"one"})
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    files = [{"from": "set.zip", "unpack": "set", "checksum": checksum}]
    table(monkeypatch, tmp_path, {"own": {"about": "ours", "base": server.address, "files": files}})
    archive = tmp_path / "data" / "own" / "set.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"another")
    with pytest.raises(FetchError, match="set.zip is another file"):
        fetch.fetch(["own"], yes=True)
    archive.write_bytes(content)
    fetch.fetch(["own"], yes=True)
    assert not server.asked and not archive.exists() and (archive.parent / "set" / "1.jpg").is_file()


@pytest.mark.parametrize(
    "words", ("fetch", "fetch --list", "fetch cifar10 inception", "fetch cifar10 --yes --list")
)
def test_without_yes_all_is_said_and_nothing_asked(words, root, monkeypatch, capsys):
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(download, "urlopen", refuse)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(root)
    cli.run(words.split())
    out = capsys.readouterr().out
    target = root / "paper" / "data" / "cifar10" / cifar10.FILE
    for said in (f"170,052,171 bytes, md5:{cifar10.MD5}", f"to {target}", "Nothing was fetched"):
        assert said in out
    names = [line.partition(":")[0] for line in out.splitlines() if re.match(r"[\w-]+: ", line)]
    asked = [word for word in words.split()[1:] if not word.startswith("-")]
    assert names == (asked or list(fetch.entries()))


def test_what_has_no_address_is_said_after_the_others_are_fetched(server, tmp_path, monkeypatch):
    own = {"about": "ours", "base": server.address, "files": [{"from": "file"}]}
    hand = {"about": "theirs", "by_hand": "ask them, and put it in {folder}"}
    table(monkeypatch, tmp_path, {"theirs": hand, "own": own})
    said = rf"theirs has to be got by hand: ask them, and put it in {tmp_path}/data/theirs"
    with pytest.raises(FetchError, match=said):
        fetch.fetch(["theirs", "own"], yes=True)
    assert (tmp_path / "data" / "own" / "file").read_bytes() == CONTENT


# The table


def test_the_table_says_what_the_readers_say(monkeypatch, tmp_path):
    """The same addresses and checksums as where the files are read."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    from fewstep.networks import autoencoder, clip_files

    known = fetch.entries()
    (archive,), (inception,) = known["cifar10"].files, known["inception"].files
    assert archive.checksum == f"md5:{cifar10.MD5}"
    assert (inception.url, inception.checksum) == (
        features.INCEPTION_URL,
        f"sha256:{features.INCEPTION_SHA256}",
    )
    for name, repository in (
        ("sd-vae-ft-mse", autoencoder.published("stabilityai/sd-vae-ft-mse")),
        ("clip-vit-large-patch14", clip_files.repository_of("openai/clip-vit-large-patch14", "both")),
    ):
        own = {file.path.name: file for file in known[name].files}
        assert set(own) == set(repository.files) and repository.name in known[name].about
        assert own[repository.weights].checksum == f"sha256:{repository.sha256}"
        # a revision, and no branch
        assert all(
            re.search(rf"{repository.name}/resolve/[0-9a-f]{{40}}/", file.url) for file in own.values()
        )
    for split in coco.SETS.values():
        own = {file.url: file for file in known["coco"].files if file.url in split.archive.source}
        assert [file.kept for file in own.values()] == [
            split.archive.folder / split.pictures, split.archive.folder / split.annotations,
        ]  # fmt: skip
        assert [file.holds for file in own.values()] == [split.count, 1]
    for name in ("imagenet32", "celeba64", "afhq64", "celebahq", "laion"):
        (address,) = re.findall(r"https://(?!github.com/rom1504)[^\s,)]+", known[name].by_hand)
        module = data.module(name)
        assert address.rstrip(":") in module.HOME, name
        assert str(folder_of(name)) in known[name].by_hand


def test_what_is_fetched_lies_where_tier_paper_looks_for_it(server, tmp_path, monkeypatch, root):
    """Files of the right names and of nothing: they are no longer absent, but wrong."""
    from fewstep.networks import autoencoder, clip_files
    from fewstep.networks.published import instaflow

    content = yaml.safe_load(fetch.TABLE.read_text(encoding="utf-8"))
    for entry in content.values():
        entry["base"] = server.address
        for file in entry.get("files", ()):
            server.files[f"/{file['from']}"] = b"nothing"
            if name := file.get("unpack"):
                server.files[f"/{file['from']}"] = zipped(
                    {name if "." in name else f"{name}/1.jpg": b"nothing"}
                )
            for key in ("bytes", "checksum", "holds"):
                file.pop(key, None)
    table(monkeypatch, tmp_path, content)
    fetch.fetch([name for name, entry in content.items() if "files" in entry], yes=True)
    with pytest.raises(RuntimeError, match=f"has md5 .* instead of {cifar10.MD5}"):
        cifar10.check()
    for split in coco.SETS.values():
        with pytest.raises(RuntimeError, match="is cut short, or no file of COCO's captions"):
            split.check()
        assert (split.archive.folder / split.pictures / "1.jpg").is_file()
    with pytest.raises(ValueError, match="has SHA-256"):
        features.verify(folder_of("inception") / features.INCEPTION, features.INCEPTION_SHA256)
    for repository in (
        autoencoder.published("stabilityai/sd-vae-ft-mse"),
        clip_files.repository_of("openai/clip-vit-large-patch14", "both"),
    ):
        with pytest.raises(ValueError, match="has SHA-256"):
            repository.check(checksums=True)
    commands = [entry.then.split() for entry in fetch.entries().values() if entry.then]
    wanted = published_weights.weights_files(tiers.load(root / "params.yaml", "paper"))
    assert {Path(words[3]) for words in commands} == {file.path for file in wanted}
    for program, command, source, _ in commands:
        assert (program, command) == ("fewstep", "convert-instaflow")
        assert (
            instaflow.place(Path(source)) == Path(source) and (Path(source) / instaflow.SAFETENSORS).is_file()
        )
