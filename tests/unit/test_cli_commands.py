"""The commands as they are typed, without a running service."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from agent_service.cli import app
from agent_service.settings import MASK, render_env_example
from tests.support.typed_commands import typed

NAMES = ("MONGODB_URI", "AGENT_SERVICE_URL", "AGENT_SERVICE_DATA", "GENERATION_API_KEY")


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, and no `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_config_env_prints_the_file_that_belongs_into_the_repository(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app(["config", "env"]) == 0
    assert capsys.readouterr().out == render_env_example()


def test_config_show_says_where_a_value_came_from_and_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENERATION_API_KEY", "very-secret")
    Path(".env").write_text("MONGODB_URI=mongodb://ann:hidden@db.example.org/\n")
    assert app(["config", "show"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert rows["GENERATION_API_KEY"] == ["environment", MASK]
    assert rows["MONGODB_URI"] == [".env", f"mongodb://{MASK}@db.example.org/"]
    assert rows["API_PORT"] == ["default", "8000"]
    assert "secret" not in shown


def test_config_show_warns_about_a_name_that_is_nearly_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENERATION_BASEURL", "http://127.0.0.1:9")
    app(["config", "show"])
    assert "GENERATION_BASE_URL" in capsys.readouterr().err


def test_a_worker_does_not_load_the_client_of_the_api() -> None:
    program = "import sys, agent_service.cli; print([*sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert "agent_service.main" in loaded
    assert "agent_service.client" not in loaded
    assert "httpx2" not in loaded


def test_the_list_of_commands_says_of_each_what_it_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {name: app[name].help for name in app if not name.startswith("-")}
    for place in ("submit_command:submit", "health_command:health", "doctor_command:doctor"):
        module, _, name = place.partition(":")
        command = getattr(import_module(f"agent_service.cli.{module}"), name)
        assert listed[name] == command.__doc__.strip().splitlines()[0]
    for place in ("request_commands:requests", "service_commands:services", "key_commands:keys"):
        module, _, name = place.partition(":")
        assert listed[name] == getattr(import_module(f"agent_service.cli.{module}"), name).help


@pytest.mark.parametrize(
    "arguments", ["nonsense", "submit", "worker", "config nonsense", "health --role queen", "dev --nonsense"]
)
def test_a_wrong_command_line_has_the_exit_code_2_and_leaves_stdout_alone(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(arguments, monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_a_command_without_a_running_api_names_the_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("requests get x", monkeypatch) == 2
    assert "AGENT_SERVICE_URL" in capsys.readouterr().err


def test_an_api_that_does_not_answer_has_the_exit_code_75(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_SERVICE_URL", "http://127.0.0.1:9")
    assert typed("requests events x", monkeypatch) == 75
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "does not answer" in captured.err


def test_there_is_help_for_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("--help", monkeypatch) == 0
    text = capsys.readouterr().out
    for name in ("dev", "api", "worker", "submit", "requests", "health", "doctor", "config"):
        assert name in text
