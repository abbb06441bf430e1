"""The effective settings are told with their sources and without secrets."""

from pathlib import Path

from agent_service.settings import SettingRow, describe, load_settings
from agent_service.settings.table import list_entries


def test_each_row_tells_value_and_source(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("RETENTION_DAYS=2\n")
    (tmp_path / "generation_api_key").write_text("hush")
    environ = {
        "MONGODB_URI": "mongodb://ann:hush@db/?replicaSet=rs0",
        "GENERATION_BASE_URL": "http://ann:hush@host/v1/",
        "GENERATION_CONCURRENCY": "20",
        "SERVICES": "translation",
    }

    rows = {
        row.name: row for row in describe(load_settings(environ, env_file=env_file, secrets_folder=tmp_path))
    }

    def tell(name: str) -> tuple[str, str]:
        return rows[name].value, rows[name].source

    assert tell("MONGODB_URI") == ("mongodb://********@db/?replicaSet=rs0", "environment")
    assert tell("GENERATION_BASE_URL") == ("http://********@host/v1", "environment")
    assert tell("GENERATION_API_KEY") == ("********", "secret file")
    assert tell("GENERATION_BATCH_SIZE") == ("20", "default")
    assert tell("RETENTION_DAYS") == ("2", ".env")
    assert tell("SERVICES") == ("translation", "environment")
    assert tell("TRANSLATION_PROTOCOL") == ("execute", "default")
    assert tell("SMTP_PASSWORD") == ("", "default")
    assert "hush" not in repr(rows)


def test_there_is_a_row_for_every_variable() -> None:
    settings = load_settings({}, env_file=None, secrets_folder=None)

    names = [row.name for row in describe(settings)]

    assert names == [entry.variable.name for entry in list_entries(tuple(settings.services))]
    assert describe(settings)[0] == SettingRow(name="MONGODB_URI", value="", source="default")
