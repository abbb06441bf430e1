"""The variables are read by pydantic-settings, and each value's origin is known."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from agent_service.settings.reading import read_variables
from agent_service.settings.table import Entry
from agent_service.settings.variable import Variable


def _make_entries(names: str, type_: object = str) -> list[Entry]:
    return [
        Entry(
            variable=Variable(name=name, about="x", must_be="above 0", read_by=()),
            path=(name,),
            type=type_,
            title="x",
            default="",
        )
        for name in names
    ]


def test_the_environment_goes_before_env_file_and_secret(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("A=from .env\nB=from .env\nC=\nOTHER=\n")
    for name in "abcd":
        (tmp_path / name).write_text(f"secret {name}\r\n")

    reading = read_variables(
        _make_entries("ABCDE"), {"A": "environment", "B": "", "D": ""}, env_file, tmp_path
    )

    assert reading.values == {"A": "environment", "B": "from .env", "C": "secret c", "D": "secret d"}
    assert reading.origins == {"A": "environment", "B": ".env", "C": "secret file", "D": "secret file"}
    assert reading.names == {"A", "B", "C", "D", "OTHER"}
    assert not reading.problems


def test_a_secret_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")

    reading = read_variables(_make_entries("A"), {"A": "x"}, None, tmp_path)

    assert reading.values == {"A": "x"}
    assert not reading.problems


def test_what_is_unreadable_and_what_is_wrong_are_told_together(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("nonsense here\nB=0\n")
    (tmp_path / "a").write_bytes(b"\xff")
    (tmp_path / "d").write_text("-1")

    reading = read_variables(
        _make_entries("DABC", Annotated[int, Field(ge=1)]), {"C": "1"}, env_file, tmp_path
    )

    assert reading.values == {}
    assert reading.problems == (
        f"{env_file} line 1 must be NAME=value or a comment",
        "A: its secret file cannot be read (UnicodeDecodeError)",
        "D is '-1' (secret file): it must be above 0",
        "B is '0' (.env): it must be above 0",
    )


def test_no_environment_is_read_but_the_one_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "x")

    reading = read_variables(_make_entries("A"), {}, None, None)

    assert reading.values == {}
    assert reading.names == frozenset()
