"""
The commands of the image and of the compose file, run as plain processes with nothing but their environment.

Left out is only tini, which hands signals on.
"""

import signal
from pathlib import Path

import pytest

from agent_service.local.free_port import free_port
from tests.support.deployment_files import exec_form, image_command, last_instruction
from tests.support.image_commands import (
    DEADLINE,
    NO_SERVICE,
    compose_command,
    healthcheck,
    run,
    started,
    values_of,
    wait_until_healthy,
)


@pytest.mark.parametrize(
    "container", [pytest.param("api", marks=pytest.mark.exhaustive), "worker-generative"]
)
def test_without_a_mongodb_a_role_exits_2_and_names_the_variable(container: str, tmp_path: Path) -> None:
    result = run(compose_command(container), {"GENERATION_BASE_URL": NO_SERVICE}, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "MONGODB_URI" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_images_default_command_without_a_mongodb_exits_2_and_names_the_variable(tmp_path: Path) -> None:
    result = run([*image_command(), *exec_form(last_instruction("CMD"))], {}, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "MONGODB_URI" in result.stderr


@pytest.mark.exhaustive
def test_a_worker_without_a_base_service_exits_2_and_names_the_variable(tmp_path: Path) -> None:
    values = {"MONGODB_URI": "mongodb://127.0.0.1:9/?replicaSet=rs0"}
    result = run(compose_command("worker-generative"), values, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "GENERATION_BASE_URL" in result.stderr


@pytest.mark.parametrize("container", ["api", "worker-generative"])
def test_the_health_check_of_a_role_that_does_not_run_fails(container: str, tmp_path: Path) -> None:
    values = {
        "MONGODB_URI": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=500",
        "API_PORT": str(free_port()),
    }
    result = run(healthcheck(container), values, tmp_path)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "No module named" not in result.stderr


@pytest.mark.parametrize(
    "container",
    # In `make test` the user of the image runs the last one: see test_image_user.py.
    ["api", "worker-callback", pytest.param("worker-generative", marks=pytest.mark.exhaustive)],
)
def test_a_role_becomes_healthy_and_stops_cleanly_on_the_images_stop_signal(
    container: str, mongodb_uri: str, tmp_path: Path
) -> None:
    values = values_of(container, mongodb_uri, database=f"image_{tmp_path.name}"[:63], folder=tmp_path)
    with started(compose_command(container), values, tmp_path) as process:
        wait_until_healthy(process, healthcheck(container), values, tmp_path)
        process.send_signal(signal.Signals[last_instruction("STOPSIGNAL")])
        assert process.wait(timeout=DEADLINE) == 0
