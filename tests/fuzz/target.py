"""Target: one parser, the input that it is given, and what must be true of whatever it makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

#: Text that is close to what parsers look for, so that more than their first line is reached.
TOKENS = (
    "{{",
    "}}",
    "\\",
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    ".",
    "/",
    "@0",
    "@end",
    "end",
    "vars",
    "steps",
    "output",
    "draft",
    "$",
    "\0",
    "\r",
    "\n",
    "\r\n",
    "\u2028",
    "\ufeff",
    "data:",
    "event:",
    "id:",
    "[DONE]",
    "delta",
    "-0",
    "1e999",
    "NaN",
    "9" * 30,
    "0" * 20,
    "\ud800",
    "\u0660",
    "é",
    " ",
    "\t",
    "%",
    "=",
    "00-",
    "f" * 32,
    "GMT",
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """
    One parser.

    `check` gives one input to it and asserts what must be true; an exception that the parser does not
    document gets through. `large` makes inputs of about so many bytes that would be slow if anything were.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    large: tuple[Callable[[int], Any], ...]


def telling_text(*more: str, most: int = 30) -> st.SearchStrategy[str]:
    """Text of tokens that mean something and of any other characters, also such as no JSON may have."""
    tokens = st.sampled_from(TOKENS + more)
    any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=10)
    return st.lists(tokens | any_text, max_size=most).map("".join)


def telling_bytes(*more: str, most: int = 30) -> st.SearchStrategy[bytes]:
    """The same as bytes, which need not be UTF-8."""
    return telling_text(*more, most=most).map(lambda text: text.encode(errors="surrogatepass")) | st.binary()


#: What JSON can say, and what Python calls JSON besides: NaN, huge integers, half characters, NUL.
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | telling_text(most=6),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(telling_text(most=3), inner, max_size=6),
    max_leaves=25,
)
