"""Which of the media types that we have a caller wants, by its Accept header (RFC 9110, 12.5.1)."""

from collections.abc import Sequence


def accepted_type(accept: Sequence[str], offered: Sequence[str]) -> str | None:
    """
    The one of `offered` that the values of Accept prefer; None if they allow none of them.

    Of several that they want equally, it is the one that they name most precisely, and then the first.
    Without values it is the first.
    """
    ranges = [_Range(part) for part in ",".join(accept).split(",") if part.strip()]
    if not ranges:
        return offered[0]
    # Of equals, `max` takes the first.
    (quality, _), name = max(
        ((_preference(ranges, name), name) for name in offered), key=lambda ranked: ranked[0]
    )
    return name if quality > 0 else None


class _Range:
    """A media range such as `text/*;q=0.5`."""

    def __init__(self, text: str) -> None:
        self._name, *parameters = "".join(text.split()).lower().split(";")
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        self.quality = _quality(given.get("q", "1"))

    def precision(self, name: str) -> int:
        """How precisely it names a type: from 3, by its name, to 0, not at all."""
        return {name: 3, f"{name.partition('/')[0]}/*": 2, "*/*": 1}.get(self._name, 0)


def _preference(ranges: Sequence[_Range], name: str) -> tuple[float, int]:
    """The quality of a type, which is that of the most precise range, and how precise that is."""
    precision, quality = max((each.precision(name), each.quality) for each in ranges)
    return (quality, precision) if precision else (0.0, 0)


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 1.0
    return quality if 0 <= quality <= 1 else 1.0
