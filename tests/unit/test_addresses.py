"""The addresses of a running `dev`."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent_service.local.addresses import Addresses, find_addresses, published

ADDRESSES = Addresses(
    pid=os.getpid(),
    api_url="http://127.0.0.1:8000",
    mongodb_uri="mongodb://127.0.0.1:1/?replicaSet=rs0",
    base_urls={"generation": "http://127.0.0.1:2/v1"},
    outbox="/data/outbox",
)

WRONG_TYPES = '{"pid": "x", "api_url": 1, "mongodb_uri": 1, "base_urls": 1, "outbox": 1}'


def test_addresses_are_found_while_they_are_published_and_not_afterwards(tmp_path: Path) -> None:
    assert find_addresses(tmp_path) is None
    with published(ADDRESSES, tmp_path):
        assert find_addresses(tmp_path) == ADDRESSES
    assert find_addresses(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_addresses_of_a_process_that_is_gone_are_not_believed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with published(replace(ADDRESSES, pid=ended.pid), tmp_path):
        assert find_addresses(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "\0", "[" * 100_000, WRONG_TYPES])
def test_a_damaged_file_is_no_address(text: str, tmp_path: Path) -> None:
    (tmp_path / "addresses.json").write_text(text)
    assert find_addresses(tmp_path) is None
