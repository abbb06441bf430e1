"""Holding a data folder."""

from pathlib import Path

import pytest

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.data_folder import hold_data_folder


def test_a_folder_that_is_held_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    with (
        hold_data_folder(folder) as held,
        pytest.raises(LocalPartUnavailable, match="AGENT_SERVICE_DATA"),
        hold_data_folder(folder),
    ):
        pass
    assert held == folder
    with hold_data_folder(folder) as again:
        assert again == folder


def test_the_first_folder_that_is_free_is_taken(tmp_path: Path) -> None:
    first, second = tmp_path / "demo", tmp_path / "demo-2"
    with hold_data_folder(first, second) as one, hold_data_folder(first, second) as other:
        assert (one, other) == (first, second)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LocalPartUnavailable, match="file/data cannot be used: Not a directory"),
        hold_data_folder(tmp_path / "file" / "data"),
    ):
        pass
