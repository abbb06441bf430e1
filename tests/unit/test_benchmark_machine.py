"""Tests of the description of the machine."""

from pathlib import Path

import pytest

from benchmarks.machine import filesystem_of

pytestmark = pytest.mark.harness

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
proc /proc proc rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"), [("/tmp/benchmarks-1", "tmpfs"), ("/tmp", "tmpfs"), ("/home/data", "ext4")]
)
def test_a_folder_is_on_the_file_system_that_is_mounted_next_above_it(folder: str, kind: str) -> None:
    assert filesystem_of(Path(folder), MOUNTS) == kind


def test_a_folder_under_no_mount_is_on_an_unknown_one() -> None:
    assert filesystem_of(Path("/data"), "") == "unknown"
