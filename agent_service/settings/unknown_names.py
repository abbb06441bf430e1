"""Warnings about variables that are probably meant for us and misspelt."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent_service.settings.sources import is_injected

#: The endings that Kubernetes gives to the variables it makes for each service of a namespace.
_INJECTED_NAME = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)"
)
#: How alike a name must be when its first word alone does not say that it is ours.
_ALIKE = 0.85


def find_warnings(
    environ: Mapping[str, str], names: Iterable[str], known: Sequence[str], services: Sequence[str]
) -> tuple[str, ...]:
    """One sentence for each of `names` that looks like a setting and is none, and for each ignored value."""
    return (*_find_injected(environ, known), *_find_unknown(sorted(names), known, services))


def _find_injected(environ: Mapping[str, str], known: Sequence[str]) -> Iterator[str]:
    for name in known:
        if is_injected(name, environ.get(name, "")):
            yield (
                f"{name} looks as if Kubernetes had injected it and is ignored;"
                " set enableServiceLinks: false for the pod"
            )


def _find_unknown(names: Sequence[str], known: Sequence[str], services: Sequence[str]) -> Iterator[str]:
    known_names = frozenset(known)
    # The longest first, because one name may begin with another.
    service_prefixes = sorted((f"{service.upper()}_" for service in services), key=len, reverse=True)
    first_words = frozenset(name.partition("_")[0] for name in known)
    for name in names:
        first_word, underscore, _rest = name.partition("_")
        if name in known_names or not underscore or _is_injected_name(name):
            continue
        prefix = next((prefix for prefix in service_prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            endings = [other.removeprefix(prefix) for other in known if other.startswith(prefix)]
            close = difflib.get_close_matches(name.removeprefix(prefix), endings, n=1)
            yield f"{name} is not a setting" + (f"; did you mean {prefix}{close[0]}?" if close else "")
        elif first_word in first_words:
            close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
            if close:
                yield f"{name} is not a setting; did you mean {close[0]}?"


def _is_injected_name(name: str) -> bool:
    return any(match.end() == len(name) for match in _INJECTED_NAME.finditer(name))
