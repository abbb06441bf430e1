"""Sizes: finding what would be too large for MongoDB before it is written (protocol, rule 15)."""

from collections.abc import Mapping

import bson
from bson.errors import BSONError

from agent_service.domain.context import Context
from agent_service.domain.errors import UnstorableValue
from agent_service.domain.json_value import JsonValue
from agent_service.domain.request import Request
from agent_service.store.documents import record_document, request_document
from agent_service.store.insertion import Encoded

#: Bytes of what users put into one document, at most; MongoDB holds 16 MiB, the rest is room for our fields.
MAX_BYTES = 15 * 1024 * 1024


def encode_request(request: Request) -> Encoded:
    """The request as it is sent. Raises `UnstorableValue` if that has too many bytes."""
    encoded = _encode(request_document(request))
    if len(encoded) > MAX_BYTES:
        raise UnstorableValue(f"the request has {len(encoded)} bytes; at most {MAX_BYTES} can be stored")
    return Encoded(encoded)


def check_answer_size(context: Context, answer: Mapping[str, JsonValue]) -> int:
    """The bytes of the answer. Raises `UnstorableValue` if the context would be too large with it."""
    own = _size(answer)
    if own > MAX_BYTES:
        raise UnstorableValue(f"the answer has {own} bytes; at most {MAX_BYTES} can be stored")
    history = [record_document(record) for record in context.history]
    size = own + _size({"input": context.input, "history": history})
    if size > MAX_BYTES:
        raise UnstorableValue(
            f"input, answer and history have {size} bytes together; at most {MAX_BYTES} can be stored"
        )
    return own


def _size(document: Mapping[str, object]) -> int:
    return len(_encode(document))


def _encode(document: Mapping[str, object]) -> bytes:
    try:
        return bson.encode(document)
    except (BSONError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise UnstorableValue(f"{type(error).__name__}: the value cannot be stored") from error
