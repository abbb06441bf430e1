"""The previous release as the other tests get it: built from the history, once, and nothing else runs."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import ROOT
from tests.upgrade.support.release import (
    Release,
    ReleaseMissing,
    pinned_commit,
    release_of,
)


def test_processes_of_each_release_run_its_own_code_and_never_the_installed_tree(
    previous_release: Release, present_release: Release, tmp_path: Path
) -> None:
    code, metadata, version = previous_release.origin(tmp_path)
    assert code == previous_release.package / "agent_service" / "__init__.py"
    assert metadata == previous_release.package
    assert (
        version
        == re.findall(
            r'^version = "(.+)"$',
            (previous_release.package.parent / "source/pyproject.toml").read_text(),
            re.M,
        )[0]
    )
    assert present_release.origin(tmp_path)[0] == ROOT / "agent_service" / "__init__.py"
    empty = Release(name="empty", package=tmp_path, reader=present_release.reader)
    with pytest.raises(AssertionError, match="the empty release would run"):
        empty.check_origin(tmp_path)


@pytest.mark.usefixtures("previous_release")
def test_the_previous_release_is_a_whole_commit_id_from_before_this_tree() -> None:
    assert re.fullmatch("[0-9a-f]{40}", pinned_commit())
    ancestor = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", pinned_commit(), "HEAD"]
    assert subprocess.run(ancestor, check=False).returncode == 0


def test_a_missing_history_fails_with_what_to_do(tmp_path: Path) -> None:
    wanted = "Fetch the whole history with `git fetch --unshallow`"
    with pytest.raises(ReleaseMissing, match=wanted):
        release_of("0" * 40, tmp_path / "cache")
    # Where there is no repository at all.
    with pytest.raises(ReleaseMissing, match="run these tests in a clone"):
        release_of(pinned_commit(), tmp_path / "cache", repository=Path("/"))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


async def test_whoever_needs_it_at_the_same_time_gets_one_build(tmp_path: Path) -> None:
    builds: list[Path] = []

    def build(source: Path, target: Path) -> None:
        builds.append(source)
        target.mkdir()

    def make() -> Release:
        return release_of(pinned_commit(), tmp_path, build=build)

    first, second = await asyncio.gather(asyncio.to_thread(make), asyncio.to_thread(make))
    assert first == second
    assert len(builds) == 1
    assert first.reader.exists()
