"""scripts/flakes: tests are repeated until one fails."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.deployment_files import ROOT
from tests.support.scripts import load_script

pytestmark = pytest.mark.harness

#: Fails the third time that it is run.
FLAKY = """
from pathlib import Path

def test_passes_twice():
    runs = Path({runs!r})
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    print("run", len(runs.read_text()))
    assert len(runs.read_text()) != 3, "the third time"
"""


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is given to pytest: the file, and to load nothing of this project's, which takes its time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    path, settings = tmp_path / "test_flaky.py", tmp_path / "pytest.ini"
    path.write_text(FLAKY.format(runs=str(tmp_path / "runs")))
    settings.write_text("[pytest]\n")
    return [str(path), "-c", str(settings)]


def test_it_ends_with_the_round_that_fails_and_shows_it(
    flaky: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert load_script("flakes").main(["--rounds", "9", *flaky, "-k", "passes or other"]) == 1
    shown = capfd.readouterr().out
    rounds = [line.split(" (")[0] for line in shown.splitlines() if line.startswith("round ")]
    assert rounds == ["round 1 of 9 passed", "round 2 of 9 passed", "round 3 of 9 FAILED"]
    assert "the third time" in shown
    assert "run 3" in shown
    # Of a round that passed only the end is told.
    assert "run 2" not in shown


def test_it_is_content_after_as_many_rounds_as_were_asked_for(
    flaky: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert load_script("flakes").main(["--rounds", "2", *flaky]) == 0
    assert "round 2 of 2 passed" in capfd.readouterr().out


def test_where_nothing_is_tested_it_is_not_content(
    flaky: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert load_script("flakes").main([*flaky, "-k", "missing"]) == 2
    assert "round 1 of 20 did not run" in capfd.readouterr().out
    with pytest.raises(SystemExit) as ended:
        load_script("flakes").main([])
    assert ended.value.code == 2


def test_make_hands_on_the_tests_and_the_rounds() -> None:
    command = ["make", "--dry-run", "flakes", "TESTS=tests/unit/test_sse.py -k 'one or two'", "ROUNDS=3"]
    environment = {"PATH": os.environ["PATH"]}
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "scripts/flakes --rounds 3 tests/unit/test_sse.py -k 'one or two'" in shown
