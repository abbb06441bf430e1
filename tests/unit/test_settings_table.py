"""The table holds every variable once, with its name, place and default."""

from agent_service.settings.models import Settings
from agent_service.settings.sections import Section
from agent_service.settings.service import ServiceSettings
from agent_service.settings.table import list_entries, list_service_entries

_SERVICE_SUFFIXES = (
    "BASE_URL",
    "API_KEY",
    "POLL_INTERVAL",
    "CONCURRENCY",
    "BATCH_SIZE",
    "TIMEOUT",
    "MAX_ATTEMPTS",
    "LEASE_SECONDS",
    "PROTOCOL",
    "MODEL",
)
_NAMES = (
    "MONGODB_URI",
    "MONGODB_DATABASE",
    "MONGODB_DRIVER",
    "MONGOD_BINARY",
    "SERVICES",
    "API_HOST",
    "API_PORT",
    "API_KEYS_FILE",
    "API_REQUIRE_KEYS",
    "API_ALLOW_ANONYMOUS",
    "MAX_BODY_BYTES",
    "API_BODY_TIMEOUT",
    "API_MAX_HEAD_BYTES",
    "API_HEAD_TIMEOUT",
    "API_MAX_CONNECTIONS",
    "ORGANIZATION_MAX_OPEN_REQUESTS",
    "ORGANIZATION_SUBMISSIONS_PER_MINUTE",
    "PRIORITY_AGEING_SECONDS",
    "REQUEST_DEADLINE_SECONDS",
    "RETENTION_DAYS",
    "SHUTDOWN_GRACE_SECONDS",
    "AGENT_SERVICE_URL",
    "AGENT_SERVICE_API_KEY",
    "AGENT_SERVICE_DATA",
    "CALLBACK_ALLOWED_HOSTS",
    "CALLBACK_SECRET",
    "CALLBACK_ALLOW_HTTP",
    "CALLBACK_ALLOWED_PORTS",
    "CALLBACK_ALLOWED_NETWORKS",
    "CALLBACK_CONCURRENCY",
    "CALLBACK_TIMEOUT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USERNAME",
    "SMTP_PASSWORD",
    "SMTP_FROM",
    "SMTP_STARTTLS",
)


def test_every_name_that_others_rely_on_is_in_the_table_once() -> None:
    names = [entry.variable.name for entry in list_entries(("generation", "translation"))]

    expected = [*_NAMES]
    for prefix in ("GENERATION", "TRANSLATION"):
        expected += [f"{prefix}_{suffix}" for suffix in _SERVICE_SUFFIXES]
    assert sorted(names) == sorted(expected)


def test_every_field_of_a_section_has_a_variable() -> None:
    places = {entry.path for entry in list_entries(("generation",))}

    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            assert {(name, inner) for inner in section.model_fields} <= places
    assert {("services", "generation", inner) for inner in ServiceSettings.model_fields} <= places


def test_no_variable_of_a_service_can_be_that_of_another_service() -> None:
    # Otherwise SERVICES=generation_x could set a value of generation.
    suffixes = [entry.variable.name.removeprefix("X_") for entry in list_service_entries("x")]

    assert not [(a, b) for a in suffixes for b in suffixes if a != b and a.endswith(f"_{b}")]


def test_every_entry_explains_itself_in_one_line() -> None:
    for entry in list_entries(("generation",)):
        variable = entry.variable
        assert entry.title
        assert variable.read_by
        assert variable.about
        assert "\n" not in variable.about + variable.must_be
