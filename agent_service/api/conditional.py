"""Conditional answers: what a caller has already is not sent again (RFC 9110, sections 8.8.3 and 13.1.2)."""

import hashlib
import re

from starlette.datastructures import Headers

HEADER = "If-None-Match"

_DIGEST_BYTES = 16
#: An entity tag; by the weak comparison, which is what If-None-Match asks for, W/ makes no difference.
_TAG = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')
_TAGS = re.compile(rf"[\s,]*{_TAG.pattern}(?:\s*,[\s,]*{_TAG.pattern})*[\s,]*")


def entity_tag(body: bytes) -> str:
    """The strong tag of a representation: equal for equal bytes, and for nothing else."""
    return f'"{hashlib.blake2b(body, digest_size=_DIGEST_BYTES).hexdigest()}"'


def is_known(headers: Headers, tag: str) -> bool:
    """Whether a caller has the representation with this tag; a condition that cannot be read is none."""
    condition = ",".join(headers.getlist(HEADER)).strip()
    if condition == "*":
        return True
    return _TAGS.fullmatch(condition) is not None and tag in _TAG.findall(condition)
