import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import shared_memory
from tests.support.shared_memory import data_folder


def test_the_folder_is_there_while_it_is_used_and_gone_afterwards(tmp_path: Path) -> None:
    with data_folder(tmp_path / "fallback", shared_memory=tmp_path) as folder:
        assert folder.parent == tmp_path
        (folder / "db").mkdir()
    assert not folder.exists()


def test_without_shared_memory_the_data_are_on_the_disk(tmp_path: Path) -> None:
    with data_folder(tmp_path, shared_memory=tmp_path / "not there") as folder:
        assert folder == tmp_path
    assert tmp_path.exists()


def test_where_little_is_free_the_data_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "_ENOUGH_BYTES", 2**62)
    with data_folder(tmp_path / "fallback", shared_memory=tmp_path) as folder:
        assert folder == tmp_path / "fallback"


def test_what_a_killed_run_left_is_removed_and_what_another_uses_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"agent_service-tests-{ended.pid}-abc"
    used = tmp_path / f"agent_service-tests-{os.getppid()}-abc"
    for folder in (left, used, tmp_path / "agent_service-tests-of-somebody"):
        folder.mkdir()
    with data_folder(tmp_path / "fallback", shared_memory=tmp_path):
        assert not left.exists()
        assert used.exists()
        assert (tmp_path / "agent_service-tests-of-somebody").exists()
