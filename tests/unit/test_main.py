"""The composition root: what each role loads, refuses and does on a signal."""

import asyncio
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from agent_service import main
from agent_service.domain.errors import ConfigurationError
from agent_service.settings import load_settings
from tests.support.commands import RunningModule, running_module

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_worker_process_never_loads_a_web_framework() -> None:
    """Neither for one of the services that there always are, nor for one that settings name."""
    program = f"""
import asyncio, os, sys
from agent_service import cli, main
from agent_service.settings import load_settings
names = "generation", "analysis", "communication", "translation"
settings = load_settings({{
    "MONGODB_URI": {NOBODY!r}, "SERVICES": "translation",
    **{{name.upper() + "_BASE_URL": "http://127.0.0.1:9" for name in names}},
}}, env_file=None, secrets_folder=None)
async def go(name):
    try:
        async with asyncio.timeout(0.5):
            await main.worker(settings, name)
    except TimeoutError:
        begun.append(name)
begun = []
async def go_all():
    await asyncio.gather(*map(go, names))
asyncio.run(go_all())
print([name for name in ("fastapi", "starlette", "uvicorn", "agent_service.api.app") if name in sys.modules])
print("agent_service.workers.worker_base" in sys.modules)
print(sorted(begun) == sorted(names))
"""
    result = run_program(program)
    assert result.stdout.splitlines() == ["[]", "True", "True"], result.stderr


def test_what_a_role_keeps_is_left_out_of_garbage_collections() -> None:
    program = """
import asyncio, gc
from datetime import timedelta
from agent_service import main
from agent_service.processes import role_run
role_run._SETTLED_AFTER = timedelta(0)
async def role():
    while gc.get_threshold() != role_run._COLLECT_AFTER:
        await asyncio.sleep(0.01)
    print(gc.get_freeze_count() > 0)
print(main.run(asyncio.wait_for(role(), 30)))
"""
    result = run_program(program)
    assert result.stdout.splitlines() == ["True", "0"], result.stderr


def test_what_was_loaded_before_a_role_is_left_out_of_its_first_garbage_collection() -> None:
    program = """
import asyncio, gc
from datetime import timedelta
from agent_service import main
from agent_service.processes import role_run
role_run._SETTLED_AFTER = timedelta(hours=1)
async def role():
    print(gc.get_freeze_count() > 10_000)
print(main.run(role()))
"""
    result = run_program(program)
    assert result.stdout.splitlines() == ["True", "0"], result.stderr


def test_every_name_in_the_table_of_parts_is_there() -> None:
    for name, home in main._HOMES.items():
        module, _, attribute = home.partition(":")
        assert callable(getattr(import_module(module), attribute or name)), home


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "MONGODB_URI"),
        ({"MONGODB_URI": NOBODY, "API_HOST": "0.0.0.0"}, "API_ALLOW_ANONYMOUS"),
        ({"MONGODB_URI": NOBODY, "API_KEYS_FILE": "no/such/file"}, "API_KEYS_FILE"),
        ({"MONGODB_URI": NOBODY, "API_REQUIRE_KEYS": "1", "API_ALLOW_ANONYMOUS": "1"}, "leave one out"),
    ],
)
async def test_the_api_refuses_to_start_and_names_the_variable(environ: dict[str, str], named: str) -> None:
    settings = load_settings({"API_PORT": "0", **environ}, env_file=None, secrets_folder=None)
    with pytest.raises(ConfigurationError, match=named):
        await main.api(settings)


@pytest.mark.parametrize(
    ("service", "named"), [("generation", "GENERATION_BASE_URL is not set"), ("translation", "SERVICES")]
)
async def test_a_worker_that_cannot_work_refuses_to_start_and_names_the_variable(
    service: str, named: str
) -> None:
    settings = load_settings({"MONGODB_URI": NOBODY}, env_file=None, secrets_folder=None)
    with pytest.raises(ConfigurationError, match=named):
        await main.worker(settings, service)


async def test_dev_with_callbacks_and_nothing_to_sign_them_with_refuses_to_start() -> None:
    environ = {"API_PORT": "0", "CALLBACK_ALLOWED_HOSTS": "hooks.example.org"}
    with pytest.raises(ConfigurationError, match="CALLBACK_SECRET is not set"):
        await main.dev(load_settings(environ, env_file=None, secrets_folder=None))


def test_a_role_that_ends_by_itself_has_the_exit_code_0() -> None:
    async def role() -> None:
        pass

    assert main.run(role(), when_stopped=9) == 0


def test_the_first_signal_lets_a_role_end_cleanly() -> None:
    cleaned = []

    async def role() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    assert main.run(role(), when_stopped=9) == 9
    assert cleaned


def test_an_error_of_a_role_is_not_hidden_by_the_signal_before_it() -> None:
    async def role() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            raise ConfigurationError("went wrong while it stopped")

    with pytest.raises(ConfigurationError, match="while it stopped"):
        main.run(role())


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_the_second_signal_ends_the_process_at_once(name: str, code: int) -> None:
    program = f"""
import asyncio, os, signal
from agent_service import main
async def role():
    try:
        os.kill(os.getpid(), signal.{name})
        await asyncio.Event().wait()
    finally:
        os.kill(os.getpid(), signal.{name})
        await asyncio.Event().wait()
main.run(role())
"""
    assert run_program(program).returncode == code


def wait_in_vain(driver: str, role: list[str], folder: Path) -> tuple[int, RunningModule]:
    values = {
        "MONGODB_URI": "mongodb://ann:secret@127.0.0.1:9/?serverSelectionTimeoutMS=300",
        "MONGODB_DRIVER": driver,
        "GENERATION_BASE_URL": "http://127.0.0.1:9",
        "API_PORT": "0",
    }
    with running_module("agent_service", role, folder=folder, values=values) as process:
        process.wait_for("127.0.0.1:9 does not answer")
        process.process.send_signal(signal.SIGTERM)
        return process.end(), process


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize("role", ["api", "worker generation"])
def test_a_role_waits_for_mongodb_says_what_it_tries_and_still_stops_on_a_signal(
    role: str, driver: str, tmp_path: Path
) -> None:
    code, process = wait_in_vain(driver, role.split(), tmp_path)
    text = "".join(process.errors)
    assert code == 0, text
    assert "secret" not in text
    assert "Traceback" not in text
