"""Where pydantic-settings finds the text of a variable, and what cannot be read."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent_service.settings.sources import EnvFileSource, EnvironmentSource, SecretsFolderSource


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(case_sensitive=True, extra="ignore")

    A: str = ""
    B: str = ""
    API_PORT: str = ""
    API_HOST: str = ""


def _write(folder: Path, content: bytes) -> Path:
    file = folder / ".env"
    file.write_bytes(content)
    return file


def test_an_empty_text_counts_as_not_set(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n")
    (tmp_path / "b").write_text("x\n")

    assert EnvironmentSource(_Variables, {"A": "", "B": "x"})() == {"B": "x"}
    assert EnvFileSource(_Variables, _write(tmp_path, b"A=\nB=x\n"))() == {"B": "x"}
    assert SecretsFolderSource(_Variables, tmp_path)() == {"B": "x"}


def test_names_in_another_case_are_other_names(tmp_path: Path) -> None:
    (tmp_path / "A").write_text("x")

    assert EnvironmentSource(_Variables, {"a": "x"})() == {}
    assert "A" not in EnvFileSource(_Variables, _write(tmp_path, b"a=x\n"))()
    assert SecretsFolderSource(_Variables, tmp_path)() == {}


def test_only_the_line_end_of_a_secret_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b" a b \r\n")

    assert SecretsFolderSource(_Variables, tmp_path)() == {"A": " a b "}


def test_a_secret_may_be_a_link_to_another_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "a").symlink_to(_write(tmp_path, b"x"))

    assert SecretsFolderSource(_Variables, folder)() == {"A": "x"}


def test_a_secret_that_cannot_be_read_is_a_problem_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hush\xff")
    source = SecretsFolderSource(_Variables, tmp_path)

    assert source() == {}
    assert source.problems == ["A: its secret file cannot be read (UnicodeDecodeError)"]


def test_an_env_file_may_quote_comment_export_and_hold_dollars(tmp_path: Path) -> None:
    source = EnvFileSource(_Variables, _write(tmp_path, b"# comment\n\nexport A='x y' # more\nB=${HOME}$x\n"))

    assert source() == {"A": "x y", "B": "${HOME}$x"}
    assert not source.problems


def test_a_line_that_is_no_setting_is_named_by_its_number_and_not_shown(tmp_path: Path) -> None:
    env_file = _write(tmp_path, b"A=1\nmy password hush\nB=2\n")

    source = EnvFileSource(_Variables, env_file)

    assert source.problems == [f"{env_file} line 2 must be NAME=value or a comment"]
    assert source() == {"A": "1", "B": "2"}


def test_an_env_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    env_file = _write(tmp_path, b"A=\xff\xfe")

    source = EnvFileSource(_Variables, env_file)

    assert source.problems == [f"{env_file} must be a readable text file in UTF-8 (UnicodeDecodeError)"]
    assert source() == {}


@pytest.mark.parametrize("folder", ["secrets", "file", None])
def test_files_that_are_missing_are_no_problem(folder: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env_file = EnvFileSource(_Variables, tmp_path / ".env" if folder else None)
    secrets = SecretsFolderSource(_Variables, tmp_path / folder if folder else None)

    assert (env_file(), secrets()) == ({}, {})
    assert not env_file.problems + secrets.problems


@pytest.mark.parametrize("text", ["tcp://10.0.0.1:80", "udp://10.0.0.1:53"])
def test_a_port_that_kubernetes_injected_counts_as_not_set(text: str) -> None:
    environ: Mapping[str, str] = {"API_PORT": text, "API_HOST": text}

    assert EnvironmentSource(_Variables, environ)() == {"API_HOST": text}
