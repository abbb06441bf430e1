"""mask_uri: an address that may be shown to people."""

import re

MASK = "********"

#: Options of a MongoDB address that say nothing secret; the value of every other option is masked.
_PLAIN_OPTIONS = frozenset(
    {
        "appname",
        "authsource",
        "directconnection",
        "readconcernlevel",
        "readpreference",
        "replicaset",
        "retryreads",
        "retrywrites",
        "ssl",
        "tls",
        "w",
    }
)
_SCHEME = re.compile(r"(mongodb(\+srv)?|https?)://")


def mask_uri(uri: str) -> str:
    """
    `uri` without its user, password and query values; well-known plain MongoDB options stay.

    Masks too much rather than too little when the address is malformed.
    """
    # Up to the last @, because an unescaped one may stand in the password.
    before, at, address = uri.rpartition("@")
    if at:
        scheme = _SCHEME.match(before)
        address = f"{scheme.group() if scheme else ''}{MASK}@{address}"
    address, question_mark, options = address.partition("?")
    if not question_mark:
        return address
    return f"{address}?{'&'.join(_mask_option(option) for option in options.split('&'))}"


def _mask_option(option: str) -> str:
    name, equals, _value = option.partition("=")
    if name.lower() in _PLAIN_OPTIONS:
        return option
    return f"{name}={MASK}" if equals else MASK
