"""Where the text of a variable comes from, and what cannot be read."""

from pathlib import Path

import pytest

from agent_service.settings.sources import read_sources


def test_the_environment_goes_before_env_file_and_secret(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("A=from .env\nB=from .env\nC=\n")
    for name in "abcd":
        (tmp_path / name).write_text(f"secret {name}\r\n")

    sources = read_sources({"A": "environment", "B": "", "D": ""}, env_file, tmp_path)

    found = {name: sources.find(name) for name in "ABCDE"}
    assert {name: (item.text, item.origin) for name, item in found.items() if item} == {
        "A": ("environment", "environment"),
        "B": ("from .env", ".env"),
        "C": ("secret c", "secret file"),
        "D": ("secret d", "secret file"),
    }


def test_only_the_line_end_of_a_secret_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" a b \n")

    found = read_sources({}, None, tmp_path).find("KEY")

    assert found is not None
    assert found.text == " a b "
    assert "a b" not in repr(found)


def test_an_env_file_may_quote_comment_export_and_hold_dollars(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("# comment\n\nexport A='x y' # more\nB=${HOME}$x\n")

    sources = read_sources({}, env_file, None)

    assert dict(sources.env_file) == {"A": "x y", "B": "${HOME}$x"}
    assert not sources.problems


def test_a_line_that_is_no_setting_is_named_by_its_number_and_not_shown(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("A=1\nmy password hush\nB=2\n")

    sources = read_sources({}, env_file, None)

    assert sources.problems == (f"{env_file} line 2 must be NAME=value or a comment",)
    assert dict(sources.env_file) == {"A": "1", "B": "2"}


def test_an_env_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"A=\xff\xfe")

    (problem,) = read_sources({}, env_file, None).problems

    assert problem == f"{env_file} must be a readable text file in UTF-8 (UnicodeDecodeError)"


def test_files_that_are_missing_are_no_problem(tmp_path: Path) -> None:
    sources = read_sources({}, tmp_path / ".env", tmp_path / "secrets")

    assert sources.find("A") is None
    assert not sources.problems


@pytest.mark.parametrize("text", ["tcp://10.0.0.1:80", "udp://10.0.0.1:53"])
def test_a_port_that_kubernetes_injected_counts_as_not_set(text: str) -> None:
    sources = read_sources({"API_PORT": text, "API_HOST": text}, None, None)

    assert sources.find("API_PORT") is None
    assert sources.find("API_HOST") is not None
