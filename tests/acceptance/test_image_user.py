"""The image's user: a role runs with no right but to read, and leaves nothing outside its /tmp."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment_files import ROOT, last_instruction
from tests.support.image_commands import (
    DEADLINE,
    compose_command,
    healthcheck,
    run,
    started,
    values_of,
    wait_until_healthy,
)

USER, GROUP = last_instruction("USER").split(":")
#: The bit of CAP_DAC_READ_SEARCH.
READ_SEARCH = 2
#: Where anybody may write, on any machine.
WRITABLE = ("/tmp", "/var/tmp", "/dev/shm")

_PREFIX = "image-user-"

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can become another user, with setpriv of util-linux",
)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """What /tmp is in the container: the one folder that belongs to its user."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    os.chown(folder, int(USER), int(GROUP))
    yield folder
    shutil.rmtree(folder)


def as_image_user() -> list[str]:
    """
    What to run a command behind, so that it has the user of the image and no rights beside that.

    It may look into every folder: those of the image are open to all, and those of this checkout may not be.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [bounding] = [line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")]
    right = ",+dac_read_search" if int(bounding, 16) >> READ_SEARCH & 1 else ""
    rights = [f"{option}=-all{right}" for option in ("--inh-caps", "--ambient-caps", "--bounding-set")]
    return ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs", *rights]


def files_of_image_user() -> set[str]:
    """Everything that the user of the image owns where anybody may write, and in the source tree."""
    found = subprocess.run(
        ["find", *WRITABLE, str(ROOT / "agent_service"), "-user", USER, "-print"],
        capture_output=True,
        text=True,
        check=False,
    )
    # Another of these tests may run at the same time, in a folder of its own.
    return {path for path in found.stdout.splitlines() if f"/{_PREFIX}" not in path}


@needs_root
@pytest.mark.parametrize(
    "container", [pytest.param("api", marks=pytest.mark.exhaustive), "worker-generative"]
)
def test_a_role_of_the_image_user_needs_to_write_nowhere_but_in_its_tmp(
    container: str, mongodb_uri: str, database_name: str, temporary: Path
) -> None:
    values = {
        **values_of(container, mongodb_uri, database=database_name, folder=temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(temporary),
    }
    before = files_of_image_user()
    with started(compose_command(container), values, temporary, behind=as_image_user()) as process:
        wait_until_healthy(process, healthcheck(container), values, temporary, behind=as_image_user())
        process.send_signal(signal.Signals[last_instruction("STOPSIGNAL")])
        assert process.wait(timeout=DEADLINE) == 0
    assert files_of_image_user() - before == set()


@needs_root
def test_the_image_user_of_these_tests_can_read_the_sources_and_not_write_them(temporary: Path) -> None:
    program = "import os, sys; sys.exit(os.getuid() == 0 or os.access(sys.argv[1], os.W_OK))"
    words = ["python3", "-c", program, str(ROOT / "agent_service" / "cli")]
    result = run(words, {}, temporary, behind=as_image_user())
    assert result.returncode == 0, result.stderr
