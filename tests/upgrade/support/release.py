"""Release: a version of agent_service whose processes a test can start, and how the previous one is made."""

import asyncio
import fcntl
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.support.fleet import Role
from tests.support.commands import DEADLINE, ROOT, environment

HERE = Path(__file__).resolve().parent
#: The commit of the previous release; CONTRIBUTING.md says when it moves.
PIN = HERE.parent / "previous_release"
_READER = "tests/upgrade/support/document_reader.py"
_WHERE = (
    "import importlib.metadata, json, agent_service;"
    "found = importlib.metadata.distribution('agent-service');"
    "print(json.dumps([agent_service.__file__, str(found.locate_file('')), found.version]))"
)


class ReleaseMissing(Exception):
    """The previous release cannot be made here; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """
    One version of agent_service, on the dependencies of this environment.

    `package` is the folder that its package is in, `reader` its `document_reader.py`.
    """

    name: str
    package: Path
    reader: Path

    def __str__(self) -> str:
        return self.name

    def role(self, role: Role) -> Role:
        """The same process, of this release: `await fleet.start(release.role(worker_role()))`."""
        return replace(role, variables={**role.variables, "PYTHONPATH": str(self.package)})

    def origin(self, folder: Path) -> tuple[Path, Path, str]:
        """Where a process of this release finds its code and its metadata, and the version in these."""
        code, metadata, version = json.loads(self._run("-c", _WHERE, folder=folder))
        return Path(code), Path(metadata), version

    def check_origin(self, folder: Path) -> None:
        """Raises AssertionError where a process of this release would run other code, such as the tree's."""
        code, metadata, _ = self.origin(folder)
        assert code.is_relative_to(self.package), f"the {self} release would run {code}"
        assert metadata == self.package, f"the {self} release would take the metadata in {metadata}"

    async def read(self, uri: str, *databases: str, folder: Path) -> dict[str, Any]:
        """What its `document_reader.py` says of all that is in these databases."""
        text = await asyncio.to_thread(self._run, str(self.reader), uri, *databases, folder=folder)
        found: dict[str, Any] = json.loads(text)
        return found

    def _run(self, *arguments: str, folder: Path) -> str:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment(folder, {"PYTHONPATH": str(self.package)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert result.returncode == 0, f"the {self} release: {result.stderr[-4000:]}"
        return result.stdout


def this_tree() -> Release:
    """This tree."""
    return Release(name="present", package=ROOT, reader=ROOT / _READER)


def pinned_commit() -> str:
    """The full id of the commit that counts as the previous release."""
    return PIN.read_text(encoding="utf-8").strip()


def release_of(
    commit: str, cache: Path, *, repository: Path = ROOT, build: Callable[[Path, Path], None] | None = None
) -> Release:
    """
    The release of a commit, built once for all processes that share `cache`.

    Raises `ReleaseMissing` where the history does not have it.
    """
    folder = cache / commit
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        # Whoever builds holds it; it goes with the process, so nobody waits for one that was killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with TemporaryDirectory(dir=cache) as scratch:
                made = Path(scratch, "made")
                extract_commit(commit, made / "source", repository=repository)
                (build or build_package)(made / "source", made / "package")
                # In one step: a folder that is there is whole.
                os.rename(made, folder)
    own_reader = folder / "source" / _READER
    # Each release knows best how its own documents are read; the first one came before there was a reader.
    return Release(
        name="previous",
        package=folder / "package",
        reader=own_reader if own_reader.exists() else ROOT / _READER,
    )


def extract_commit(commit: str, target: Path, *, repository: Path) -> None:
    """Put the files of a commit into a new folder. Raises `ReleaseMissing`."""
    try:
        archive = subprocess.run(
            ["git", "-C", str(repository), "archive", "--format=tar", commit], capture_output=True, check=True
        )
    except FileNotFoundError:
        raise ReleaseMissing("git is not installed: the previous release is built from the history") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ReleaseMissing(
            f"the previous release is built from commit {commit}, which is not in the history here ({said})."
            " Fetch the whole history with `git fetch --unshallow` (in hosted CI, clone without a depth);"
            " where there is no repository, such as in a source archive, run these tests in a clone."
        ) from None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(target, filter="data")


def build_package(source: Path, target: Path) -> None:
    """Build the wheel of a source tree with the pinned hatchling, without network, and unpack it."""
    wheels = target.parent / "wheels"
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, f"the wheel of the previous release was not built: {built.stderr}"
    [wheel] = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(target)
