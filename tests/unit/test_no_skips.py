"""The plugin that CI runs with: a skipped test fails the run, and its reason is shown."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.harness

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("import pytest\ndef test_one(): pytest.skip('apt-get install libfoo')", 1, "apt-get install libfoo"),
        ("import pytest\npytest.skip('no libbar', allow_module_level=True)", 1, "no libbar"),
        ("import pytest\n@pytest.mark.xfail\ndef test_one(): assert False", 0, "1 xfailed"),
        ("def test_one(): pass", 0, "2 passed"),
    ],
    ids=["skip in a test", "skip of a module", "expected failure", "pass"],
)
def test_only_a_skip_fails_a_run_that_would_pass(body: str, code: int, said: str, tmp_path: Path) -> None:
    # Another test keeps the run from ending as "no tests collected" when a whole module is skipped.
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n", encoding="utf-8")
    (tmp_path / "test_body.py").write_text(body, encoding="utf-8")
    pytest_command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.plugins.no_skips",
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run(
        [*pytest_command, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert said in result.stdout
    assert result.stdout.rstrip().splitlines()[-1].startswith("=")
