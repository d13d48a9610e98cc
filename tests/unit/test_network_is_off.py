"""Nothing connects unless it is asked to: the whole suite runs without a network, and would say so."""

import json
import shutil
import socket

import pytest

from fewstep.release import FlowMapModel
from tests.bad_inputs.saved_students import saved


def test_another_machine_is_out_of_reach_and_this_one_is_not(no_network):
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for ask in (
            lambda: socket.create_connection(("192.0.2.1", 80)),
            lambda: socket.getaddrinfo("huggingface.co", 443),
            lambda: stream.connect_ex(("192.0.2.1", 80)),
            lambda: datagrams.sendto(b"", ("192.0.2.1", 80)),
        ):
            with pytest.raises(OSError, match="a test asked the network"):
                ask()
    assert len(no_network) == 4
    no_network.clear()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    first, second = socket.socketpair(socket.AF_UNIX)
    first.close()
    second.close()


def test_a_name_in_the_place_of_settings_is_looked_for_nowhere(tmp_path):
    """What diffusers would take for a repository of the hub."""
    shutil.copytree(saved("pixels") / "flow_map", tmp_path / "flow_map")
    (tmp_path / "flow_map" / "config.json").write_text(json.dumps("somebody/some-model"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.json cannot be read as JSON \(it holds a str"):
        FlowMapModel.from_pretrained(tmp_path / "flow_map")
