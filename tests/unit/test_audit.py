import json
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripts import load_script

pytestmark = pytest.mark.harness

TODAY = date(2026, 1, 31)
#: As pip-audit writes it: one package with a vulnerability, one without, and one that the database has not.
REPORT: dict[str, Any] = {
    "dependencies": [
        {
            "name": "broken",
            "version": "1.0",
            "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"], "aliases": ["GHSA-1"], "description": "…"}],
        },
        {"name": "sound", "version": "2.0", "vulns": []},
        {"name": "strange", "skip_reason": "Dependency not found"},
    ],
    "fixes": [],
}


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, with a folder of its own in which nothing is accepted."""
    module = load_script("audit")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "audit-exceptions.toml").write_text("exception = []")
    return module


def answering(monkeypatch: pytest.MonkeyPatch, audit: Any, *answers: tuple[int, str, str]) -> None:
    """Let pip-audit end like this: exit code, what it prints, what it complains of."""
    left = list(answers)

    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        code, output, complaint = left.pop(0)
        return subprocess.CompletedProcess([], code, output, complaint)

    monkeypatch.setattr(audit.subprocess, "run", run)


def accepted(audit: Any, **changed: object) -> Any:
    """The verdict on the report with one exception."""
    entry = {"id": "CVE-1", "package": "broken", "reason": "not reached", "until": date(2026, 2, 1)}
    return audit.judge(audit.read(REPORT), [entry | changed], today=TODAY)


def test_a_vulnerability_fails_the_audit_and_says_what_mends_it(
    audit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, audit, (1, json.dumps(REPORT), "Found 1 known vulnerability"))
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert "broken 1.0: CVE-1, GHSA-1, mended in 1.1" in str(ended.value.code)


def test_a_database_that_cannot_be_reached_fails_nothing_and_is_said(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = (1, "", "requests.exceptions.ConnectionError: …")
    empty = {"dependencies": [{"name": "sound", "skip_reason": "Dependency not found"}], "fixes": []}
    answering(monkeypatch, audit, (0, json.dumps(empty), "No known vulnerabilities found"), away)
    audit.main()
    assert "NOTHING WAS AUDITED" in capsys.readouterr().err


def test_a_second_database_is_asked_when_the_first_knows_nothing(
    audit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, audit, (1, "", "ConnectionError"), (1, json.dumps(REPORT), ""))
    with pytest.raises(SystemExit, match="broken"):
        audit.main()


def test_an_error_that_is_not_of_the_network_fails_the_audit(
    audit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, audit, (1, "", "a requirement has no hash"))
    with pytest.raises(SystemExit, match="no hash"):
        audit.main()


@pytest.mark.parametrize("identifier", ["CVE-1", "GHSA-1"])
def test_an_exception_holds_by_any_name_of_the_vulnerability(audit: Any, identifier: str) -> None:
    verdict = accepted(audit, id=identifier)
    assert verdict.wrong == []
    assert any("accepted until 2026-02-01: not reached" in line for line in verdict.said)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"until": TODAY}, "it was accepted until 2026-01-31"),
        ({"package": "sound"}, "no lock has it any more"),
        ({"id": "CVE-2"}, "no lock has it any more"),
    ],
)
def test_an_exception_that_is_over_or_of_no_use_is_a_finding(
    audit: Any, changed: dict[str, object], reason: str
) -> None:
    assert any(reason in line for line in accepted(audit, **changed).wrong)


def test_the_exceptions_of_the_project_are_whole() -> None:
    module = load_script("audit")
    report: dict[str, Any] = {"dependencies": [], "fixes": []}
    text = (module.ROOT / "requirements" / "audit-exceptions.toml").read_text(encoding="utf-8")
    for entry in module.tomllib.loads(text)["exception"]:
        assert set(entry) == {"id", "package", "reason", "until"}
        module.judge(module.read(report), [entry], today=TODAY)
