"""Checkpoints: exact, atomic, verified."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from fewstep import networks
from fewstep.networks import load_flow_map
from fewstep.storage.block_array import BlockArray
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from fewstep.storage.files import write_atomically

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "count": torch.tensor(7),
    "bytes": torch.tensor([1, 255], dtype=torch.uint8),
}
MLP = {
    "kind": "mlp",
    "width": 8,
    "depth": 2,
    "activation": "silu",
    "frequencies": [1],
    "time_frequencies": [1],
}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    save_checkpoint(tmp_path / "x.safetensors", TENSORS, {"step": 3, "name": "é"})
    tensors, info = load_checkpoint(tmp_path / "x.safetensors")
    assert info == {"step": 3, "name": "é"}
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype


def test_equal_states_give_equal_bytes(tmp_path):
    for name in "ab":
        save_checkpoint(tmp_path / name, TENSORS, {"step": 3, "z": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_a_cut_and_a_foreign_file_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="is damaged .*checksum differs.*delete it"):
        load_checkpoint(path)
    path.write_bytes(whole[:-20])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)
    save_file({"a": torch.zeros(2)}, str(path))
    with pytest.raises(CheckpointError, match="was not written by fewstep"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="is not there: run the stage"):
        load_checkpoint(tmp_path / "absent")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {"step": 1})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError):
        save_checkpoint(path, TENSORS, {"step": 2})
    assert load_checkpoint(path)[1] == {"step": 1}


def test_weights_of_another_shape_or_network_are_named(tmp_path):
    small, wide = networks.build(MLP, (2,)), networks.build(MLP | {"width": 9}, (2,))
    with pytest.raises(
        CheckpointError, match=r"another shape: 'network\.layers\.0\.weight' is \(9, .*\) there and \(8, "
    ):
        load_weights(small, wide.state_dict(), tmp_path)
    deep = networks.build(MLP | {"depth": 3}, (2,))
    with pytest.raises(CheckpointError, match="weights of another network: 'network.layers.2.weight'"):
        load_weights(small, deep.state_dict(), tmp_path)


def test_a_state_is_no_flow_map(tmp_path):
    save_checkpoint(tmp_path / "state", TENSORS, {"step": 1})
    with pytest.raises(CheckpointError, match="is no trained flow map"):
        load_flow_map(tmp_path / "state")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_no_temporary_file_and_names_the_file(tmp_path, monkeypatch, error):
    path = tmp_path / "folder" / "x.safetensors"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr("os.fsync", fail)
    message = r"No space left on device; nothing was written to: '.*x\.safetensors'" if error.args else None
    with pytest.raises(type(error), match=message):
        write_atomically(path, b"new")
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"old"]


def test_an_array_that_the_disk_has_no_room_for_leaves_no_file_and_is_named(tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(
        OSError, match=r"No space left on device; there is no room for 24 bytes in: '.*x\.npy'"
    ):
        BlockArray.open(tmp_path / "x.npy", (2, 3))
    assert not list(tmp_path.iterdir())


def test_a_file_replaced_while_it_is_read_is_the_old_one_or_the_new_one(tmp_path):
    """As a training does that writes its next state: header and tensors are of the same file."""
    path, others = tmp_path / "state.safetensors", [tmp_path / "0", tmp_path / "1"]
    for k, other in enumerate(others):
        save_checkpoint(other, {"a": torch.full((2000,), float(k))}, {"step": k})
    shutil.copy(others[0], path)
    replace = (
        "import itertools, os, sys\n"
        "for k in itertools.count():\n"
        "    os.link(sys.argv[1 + k % 2], 'next'); os.replace('next', sys.argv[3])"
    )
    words = [sys.executable, "-c", replace, *map(str, [*others, path])]
    with subprocess.Popen(words, cwd=tmp_path) as writer:
        try:
            seen = set()
            deadline = time.monotonic() + 60
            while (len(seen) < 2 or time.monotonic() < deadline - 57) and time.monotonic() < deadline:
                tensors, info = load_checkpoint(path)
                assert bool((tensors["a"] == info["step"]).all())
                seen.add(info["step"])
        finally:
            writer.kill()
    assert seen == {0, 1}
