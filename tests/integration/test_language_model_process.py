import subprocess
import sys

from agent_service.local.language_model import find_weights
from agent_service.local.language_model_process import READY_LINE


def command() -> list[str]:
    options = {
        "weights": find_weights(),
        "name": "small",
        "threads": 1,
        "slots": 1,
        "context": 256,
        "answer": 8,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "agent_service.local.language_model_process", *arguments]


def test_the_process_serves_until_its_standard_input_ends() -> None:
    with subprocess.Popen(
        command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().startswith(READY_LINE + "http://127.0.0.1:")
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def test_the_process_ends_although_its_parent_has_gone_while_the_server_starts() -> None:
    ended = subprocess.run(command(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, text=True)
    assert ended.stdout.startswith(READY_LINE), ended.stderr
    assert ended.returncode == 0
