"""Answers that are too large are given up while they arrive, compressed or not."""

import gzip
import tracemalloc
import zlib
from typing import Any

import httpx
import httpx2
import pytest

from agent_service.base_services.client import BaseServiceClient
from tests.support.base_service_behaviours import answer, events, gzip_bomb, huge, stream
from tests.support.base_service_clients import Service, each_kind, service
from tests.support.base_service_stub import BaseServiceStub

STREAM = {"Content-Type": "text/event-stream"}
MEBIBYTE = 2**20


@pytest.mark.conformance
@each_kind
async def test_an_answer_up_to_the_limit_is_taken_and_one_byte_more_is_not(kind: str) -> None:
    text = '{"output": "' + "x" * 1000 + '"}'
    for compressed in (False, True):
        async with service(kind, max_answer_bytes=len(text)) as it:
            it.stub.behave(
                answer(body=text, compressed=compressed), answer(body=text + " ", compressed=compressed)
            )
            assert (await it.call()).output == "x" * 1000
            assert (await it.rejected()).code == "answer_too_large"


@pytest.mark.conformance
@each_kind
async def test_a_gigabyte_is_given_up_at_the_limit(kind: str) -> None:
    async with service(kind, max_answer_bytes=MEBIBYTE) as it:
        it.stub.behave(huge(1024 * MEBIBYTE))
        assert (await it.rejected()).code == "answer_too_large"
        await it.stub.calls[0].wait_closed()


@each_kind
async def test_a_declared_length_over_the_limit_is_refused_before_the_body(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(answer(body="{}", headers={"Content-Length": str(2**40)}))
        assert (await it.rejected()).code == "answer_too_large"


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_what_a_client_of_the_caller_hands_over_beyond_the_declared_length_counts_too(
    library: Any,
) -> None:
    body = b'{"output": "' + b"x" * 1000 + b'"}'

    def handle(request: Any) -> Any:
        return library.Response(200, headers={"Content-Length": "2"}, content=body)

    async with library.AsyncClient(transport=library.MockTransport(handle)) as http_client:
        for most, expected in ((len(body), None), (len(body) - 1, "answer_too_large")):
            client = BaseServiceClient(base_url="http://mock", http_client=http_client, max_answer_bytes=most)
            it = Service(BaseServiceStub(), client)
            if expected is None:
                assert (await it.call()).output == "x" * 1000
            else:
                assert (await it.rejected()).code == expected


@pytest.mark.conformance
@each_kind
@pytest.mark.parametrize(
    "content_type", ["application/json", pytest.param("text/event-stream", marks=pytest.mark.exhaustive)]
)
async def test_a_gzip_bomb_is_given_up_before_it_fills_the_memory(kind: str, content_type: str) -> None:
    bomb = gzip_bomb(512 * MEBIBYTE, content_type=content_type)
    async with service(kind, max_answer_bytes=MEBIBYTE) as it:
        it.stub.behave(bomb)
        tracemalloc.start()
        try:
            assert (await it.rejected()).code == "answer_too_large"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # httpx inflates all that one read brought (64 KiB) at once; httpx2 one mebibyte at a time.
        assert peak < (160 if kind == "httpx" else 24) * MEBIBYTE
        await it.stub.calls[0].wait_closed()


@pytest.mark.conformance
@each_kind
async def test_layers_of_compression_and_unknown_ones_are_not_decoded_at_all(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(
            gzip_bomb(16 * MEBIBYTE, layers=2),
            answer(body=b"\x00", headers={"Content-Encoding": "br"}),
        )
        assert (await it.unavailable()).code == "invalid_answer"
        assert (await it.unavailable()).code == "invalid_answer"
        assert it.stub.calls[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.conformance
@each_kind
async def test_compressed_answers_and_streams_are_decoded(kind: str) -> None:
    body = b'data: {"delta": "a"}\n\ndata: {"output": 1}\n\n'
    compressor = zlib.compressobj(wbits=31)
    pieces = [compressor.compress(body[:30]) + compressor.flush(zlib.Z_SYNC_FLUSH)]
    pieces += [compressor.compress(body[30:]), compressor.flush()]
    # Some leave out the frame of RFC 1950, which the name `deflate` means.
    unframed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    raw = unframed.compress(b'{"output": 3}') + unframed.flush()
    async with service(kind) as it:
        it.stub.behave(
            answer({"output": "é"}, compressed=True),
            answer(body=zlib.compress(b'{"output": 2}'), headers={"Content-Encoding": "deflate"}),
            answer(body=raw, headers={"Content-Encoding": "deflate"}),
            stream(pieces, headers={**STREAM, "Content-Encoding": "gzip"}),
        )
        assert [(await it.call()).output for _ in range(4)] == ["é", 2, 3, 1]
        assert it.deltas == ["a"]


@pytest.mark.conformance
@each_kind
async def test_broken_compression_is_an_invalid_answer(kind: str) -> None:
    whole = gzip.compress(b'{"output": "' + bytes(range(32, 34)) * 500 + b'"}')
    encoding = {"Content-Encoding": "gzip"}
    async with service(kind) as it:
        it.stub.behave(
            answer(body=b"no gzip at all", headers=encoding), answer(body=whole[:-20], headers=encoding)
        )
        assert (await it.unavailable()).code == "invalid_answer"
        assert (await it.unavailable()).code == "invalid_answer"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_follows_the_end_of_a_compressed_body_is_refused_and_not_kept(encoding: str) -> None:
    body = b'{"output": 1}'
    compressed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    async with service(max_answer_bytes=65536) as it:
        pieces = [compressed, *[b"\0" * 65536] * 160]
        it.stub.behave(stream(pieces, headers={"Content-Encoding": encoding}))
        tracemalloc.start()
        try:
            assert (await it.unavailable()).code == "invalid_answer"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5 * MEBIBYTE
        await it.stub.calls[0].wait_closed()


@pytest.mark.parametrize("follows", [b"\0", gzip.compress(b"")], ids=["one byte", "another member"])
async def test_nothing_at_all_may_follow_the_end_of_a_compressed_body(follows: bytes) -> None:
    async with service() as it:
        body = gzip.compress(b'{"output": 1}') + follows
        it.stub.behave(answer(body=body, headers={"Content-Encoding": "gzip"}))
        assert (await it.unavailable()).code == "invalid_answer"


@each_kind
async def test_a_stream_counts_as_a_whole(kind: str) -> None:
    async with service(kind, max_answer_bytes=10_000) as it:
        it.stub.behave(events(*[{"delta": "x" * 100}] * 1000, {"output": 1}))
        assert (await it.rejected()).code == "answer_too_large"
        assert sum(map(len, it.deltas)) <= 10_000
