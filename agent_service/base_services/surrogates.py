"""Characters in two halves: text of a JSON string that was cut between the two escapes of one character."""

_FIRST_HALVES = ("\ud800", "\udbff")


def paired(text: str) -> str:
    """`text` with the two halves of a character put together, and a half alone replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class TextPieces:
    """
    Pieces of one text, each of which can be stored and sent by itself.

    A piece may end in the first half of a character, as services send it that count in UTF-16: the half waits
    for the next piece.
    """

    def __init__(self) -> None:
        self._waiting = ""

    def take(self, piece: str, *, last: bool = False) -> str:
        """What can be handed on now; with `last` nothing is left waiting."""
        text = self._waiting + piece
        self._waiting = ""
        if text and not last and _FIRST_HALVES[0] <= text[-1] <= _FIRST_HALVES[1]:
            self._waiting, text = text[-1], text[:-1]
        return paired(text)
