"""What a child process writes, handed on in lines that tell whose they are."""

import io
import json
import os

from agent_service.processes.output_relay import LONGEST_LINE, OutputRelay, marker


def test_a_json_line_gets_a_field_and_anything_else_becomes_a_message() -> None:
    mark = marker(3, "json")
    assert json.loads(mark(b'{"level": "INFO", "message": "hello"}')) == {
        "process": 3,
        "level": "INFO",
        "message": "hello",
    }
    for text in ("Fatal Python error", '{"level": "IN', "", "{}", "naïve"):
        assert json.loads(mark(text.encode())) == {"process": 3, "message": text}
    assert json.loads(mark(b"\xff")) == {"process": 3, "message": "\ufffd"}


def test_a_line_without_an_end_is_handed_on_in_pieces() -> None:
    output = io.BytesIO()
    relay = OutputRelay(output, marker(1, "console"))
    for _ in range(3):
        relay.data_received(b"x" * LONGEST_LINE)
    relay.connection_lost(None)
    pieces = output.getvalue().splitlines()
    assert len(pieces) == 2
    assert sum(piece.count(b"x") for piece in pieces) == 3 * LONGEST_LINE


def test_where_nobody_reads_the_output_any_more_it_is_still_taken_from_the_processes() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as output:
        relay = OutputRelay(output, marker(1, "console"))
        relay.data_received(b"line\n")
        relay.connection_lost(None)
    assert relay.ended.is_set()
