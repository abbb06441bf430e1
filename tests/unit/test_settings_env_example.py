"""`.env.example` says what the settings are."""

from pathlib import Path

from agent_service.settings import STANDARD_SERVICES, load_settings, render_env_example
from agent_service.settings.table import list_entries

_FILE = Path(__file__).parents[2] / ".env.example"


def test_the_file_is_what_the_settings_render() -> None:
    assert _FILE.read_text(encoding="utf-8") == render_env_example()


def test_every_variable_stands_in_it_once_below_an_explanation() -> None:
    lines = render_env_example().splitlines()

    names = [line[1:].partition("=")[0] for line in lines if line.startswith("#") and line[1:2].isupper()]
    assert names == [entry.variable.name for entry in list_entries(STANDARD_SERVICES)]
    assert lines[lines.index("#MONGODB_DATABASE=agent_service") - 1].startswith("# Name of the database")


def test_without_its_comment_signs_it_gives_the_defaults(tmp_path: Path) -> None:
    lines = render_env_example().splitlines()
    env_file = tmp_path / ".env"
    env_file.write_text("\n".join(line[1:] if line[1:2].isupper() else line for line in lines))

    settings = load_settings({}, env_file=env_file, secrets_folder=None)

    defaults = load_settings({}, env_file=None, secrets_folder=None)
    assert settings.model_copy(update={"origins": defaults.origins}) == defaults
    assert settings.origins["API_PORT"] == ".env"


def test_lines_stay_readable() -> None:
    assert max(map(len, render_env_example().splitlines())) <= 120
