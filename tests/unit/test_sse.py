"""Server-sent events: the same events, wherever the bytes are split."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.base_services.sse import EventDecoder, ServerSentEvent
from agent_service.domain.errors import BaseServiceRejected


def decode(*pieces: bytes, limit: int = 10_000) -> list[ServerSentEvent]:
    decoder = EventDecoder(limit)
    return [event for piece in pieces for event in decoder.feed(piece)]


def data_of(*pieces: bytes) -> list[str]:
    return [event.data for event in decode(*pieces)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_line_end_of_the_standard_ends_a_line(end: bytes) -> None:
    assert data_of(end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])) == ["a\nb", "c"]


def test_a_line_feed_after_a_split_carriage_return_is_no_second_line_end() -> None:
    assert data_of(b"data: a\r", b"\ndata: b\r\n", b"\r", b"\n") == ["a\nb"]
    assert data_of(b"data: a\r", b"", b"\n", b"\n") == ["a"]
    assert data_of(b"data: a\r", b"\r") == ["a"]


def test_other_line_separators_of_unicode_are_plain_text() -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    assert data_of(f"data: {text}\n\n".encode()) == [text]


def test_comments_and_unknown_fields_are_passed_over() -> None:
    assert decode(b": ping\n\nid: 1\nretry: 5\nfoo: x\nevent: e\ndata: a\n\n") == [
        ServerSentEvent(event="e", data="a")
    ]


def test_an_event_name_ends_with_its_event_even_when_that_had_no_data() -> None:
    assert decode(b"event: e\n\ndata: a\n\n") == [ServerSentEvent(event="message", data="a")]


def test_one_space_after_the_colon_is_removed_and_no_more() -> None:
    assert data_of(b"data:  a \n\n", b"data:b\n\n", b"data\n\n", b"data:\ndata:\n\n") == [
        " a ",
        "b",
        "",
        "\n",
    ]


def test_one_byte_order_mark_at_the_start_is_removed_even_when_split() -> None:
    assert data_of(b"\xef", b"\xbb\xbfdata: a\n\n") == ["a"]
    assert data_of(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == ["a"]


def test_what_follows_the_last_blank_line_is_no_event() -> None:
    assert data_of(b"data: a\n\ndata: b\n") == ["a"]


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert data_of(b"data: \xff\n\n") == ["\ufffd"]


def test_an_event_over_the_limit_is_refused_while_it_grows() -> None:
    decoder = EventDecoder(100)
    for _ in range(5):
        assert [event.data for event in decoder.feed(b"data: " + b"x" * 80 + b"\n\n")] == ["x" * 80]
    decoder.feed(b"data: " + b"x" * 80)
    with pytest.raises(BaseServiceRejected, match="answer_too_large"):
        decoder.feed(b"x" * 80)


def test_an_event_of_many_small_lines_counts_as_one() -> None:
    with pytest.raises(BaseServiceRejected, match="answer_too_large"):
        decode(b"data: x\n" * 20, limit=100)


LINES = st.lists(
    st.one_of(
        st.sampled_from(["", "", "data", "data:", "data: ", ":", "event: e", "\ufeffdata: a"]),
        st.text(alphabet="ab: 😀é\u2028\u0085", max_size=8).map(lambda text: f"data: {text}"),
    ),
    max_size=12,
)


@given(
    lines=LINES,
    ends=st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=12, max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=20),
)
def test_the_events_do_not_depend_on_where_the_bytes_are_split(
    lines: Sequence[str], ends: Sequence[str], cuts: Sequence[int]
) -> None:
    whole = "".join(line + end for line, end in zip(lines, ends, strict=False)).encode()
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(places)]
    expected = decode(whole)
    assert decode(*pieces) == expected
    assert decode(*(bytes([byte]) for byte in whole)) == expected


@given(texts=st.lists(st.text(alphabet="ab😀é\u2028\u0085", max_size=8), max_size=8))
def test_every_text_that_was_sent_comes_out_again(texts: Sequence[str]) -> None:
    assert data_of(*(f"data: {text}\n\n".encode() for text in texts)) == list(texts)
