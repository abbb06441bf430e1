"""Canaries: texts that are planted where secrets and payloads go, and the places where each belongs."""

import uuid
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto


class Place(StrEnum):
    """Where something may turn up."""

    #: What the processes write, and what the commands print.
    OUTPUT = auto()
    #: Every answer of the API, the problems included.
    ANSWERS = auto()
    #: Everything that is in MongoDB.
    DOCUMENTS = auto()
    #: The arguments of the processes, which everybody on the machine can read.
    ARGUMENTS = auto()
    #: What the base service is sent.
    CALLS = auto()


_OUTPUT, _ANSWERS, _DOCUMENTS, _CALLS = Place.OUTPUT, Place.ANSWERS, Place.DOCUMENTS, Place.CALLS
_PAYLOAD = (_ANSWERS, _DOCUMENTS, _CALLS)

#: What is planted, and where it belongs: there it must be found, and nowhere else.
BELONGS: Mapping[str, tuple[Place, ...]] = {
    # Settings.
    "the password of MongoDB": (),
    "the API key of a base service": (_CALLS,),
    "the password in a base URL": (_CALLS,),
    "the password of the mail server": (),
    "the end of a password that breaks its address": (),
    "a password in an address that is none": (),
    "a key that is no header": (),
    "the secret of callbacks": (),
    # Headers of callers.
    "the secret of an API key": (),
    "an API key that is none": (),
    "Cookie": (),
    "X-Api-Key": (),
    "a token in the query": (),
    "Idempotency-Key": (_DOCUMENTS,),
    "X-User-Id": (_DOCUMENTS, _CALLS),
    "Last-Event-ID": (_ANSWERS,),
    # Bodies of callers.
    "the input of a step": (_DOCUMENTS, _CALLS),
    "a variable": (_DOCUMENTS, _CALLS),
    "metadata": _PAYLOAD,
    "the address of a callback": (_DOCUMENTS,),
    "a body that is no JSON": (),
    "a body that is too large": (),
    "a name that is no field": (_ANSWERS,),
    "a service that is none": (_ANSWERS,),
    "a body that MongoDB refused": (),
    # What base services send.
    "an output": (_ANSWERS, _DOCUMENTS),
    "a streamed output": (_ANSWERS, _DOCUMENTS),
    "usage": (_ANSWERS, _DOCUMENTS),
    "the message of an error": (_ANSWERS, _DOCUMENTS),
    "another member of an error": (),
    "a header of an answer": (),
    "an answer that is no JSON": (),
    "an answer of another kind": (),
    # What handlers do.
    "a variable of a handler that raised": (),
    "the message of what a handler raised": (_OUTPUT,),
    "a variable of a thread that raised": (),
}


@dataclass(frozen=True, slots=True)
class Canaries:
    """One text for each name, made anew for each run."""

    texts: Mapping[str, str]

    @classmethod
    def hatch(cls, *, api_key: str | None = None) -> "Canaries":
        """Those of one run; the secret of an API key, if one is given, stands last in its text."""
        texts = {name: f"canary{uuid.uuid4().hex}" for name in BELONGS}
        if api_key is not None:
            texts["the secret of an API key"] = api_key.rpartition("_")[2]
        return cls(texts)

    def __getitem__(self, name: str) -> str:
        return self.texts[name]

    def found_in(self, text: str) -> set[str]:
        """The names of those that are in a text, as they are or as a header carries them."""
        return {
            name
            for name, canary in self.texts.items()
            if canary in text or any(form in text for form in _encoded(canary))
        }


def _encoded(canary: str) -> Iterable[str]:
    """The canary in Base64, wherever it begins: without the characters that depend on its neighbours."""
    for shift in range(3):
        yield b64encode(b"x" * shift + canary.encode()).decode().rstrip("=")[shift + 1 : -2]
