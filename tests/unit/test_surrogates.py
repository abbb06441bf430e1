"""Characters whose two halves come apart."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent_service.base_services.surrogates import TextPieces, paired


def test_two_halves_are_one_character_and_one_half_is_none() -> None:
    assert paired("a\ud83d\ude00b") == "a😀b"
    assert paired("\ude00\ud83d") == "\ufffd\ufffd"
    assert paired("plain é 😀") == "plain é 😀"


@given(
    text=st.text(alphabet="ab😀é\U0010ffff", max_size=12),
    sizes=st.lists(st.integers(1, 3), min_size=24, max_size=24),
)
def test_the_pieces_of_a_text_cut_anywhere_make_the_text(text: str, sizes: Sequence[int]) -> None:
    units = text.encode("utf-16-le")
    pieces, taken, place = TextPieces(), [], 0
    for size in sizes:
        piece = units[place : place + 2 * size].decode("utf-16-le", "surrogatepass")
        taken.append(pieces.take(piece))
        place += 2 * size
    taken.append(pieces.take("", last=True))
    assert "".join(taken) == text
    for piece in taken:
        piece.encode()
