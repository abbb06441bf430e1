"""What is logged: one line per message, no secrets from variables, libraries included."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
from loguru import logger

from agent_service.telemetry.logging import configure_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    logging.captureWarnings(False)
    logger.remove()
    # Only ours: the test runner looks after its own.
    root.handlers[:] = [
        item for item in root.handlers if type(item).__module__ != configure_logging.__module__
    ]
    root.setLevel(level)


@pytest.fixture
def json_log() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level="DEBUG", format="json", stream=stream)
    return stream


@pytest.fixture
def console_log() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level="DEBUG", format="console", stream=stream)
    return stream


def _fail_beside_a_secret() -> None:
    password = "".join(["hu", "sh"])
    raise RuntimeError(f"{len(password)} characters\n12:00:00 INFO     forged")


def _read_line(stream: io.StringIO) -> dict[str, object]:
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert isinstance(fields, dict)
    return fields


def test_a_json_line_holds_time_level_message_and_bound_fields(json_log: io.StringIO) -> None:
    logger.bind(request_id="r1", attempt=2, message="other").info("step {} ended", "draft")

    fields = _read_line(json_log)

    assert fields["level"] == "INFO"
    assert fields["message"] == "step draft ended"
    assert fields["logger"] == __name__
    assert (fields["request_id"], fields["attempt"], fields["extra_message"]) == ("r1", 2, "other")
    assert str(fields["time"]).endswith("Z")


def test_a_console_line_shows_message_and_bound_fields(console_log: io.StringIO) -> None:
    logger.bind(request_id="r1", context_id="r1.draft").warning("slow")

    assert console_log.getvalue()[8:] == " WARNING  slow  request_id=r1  context_id=r1.draft\n"


@pytest.mark.parametrize("log", ["json_log", "console_log"])
def test_an_exception_is_logged_without_the_values_of_variables(
    log: str, request: pytest.FixtureRequest
) -> None:
    stream: io.StringIO = request.getfixturevalue(log)
    try:
        _fail_beside_a_secret()
    except RuntimeError:
        logger.exception("it failed")

    text = stream.getvalue()
    assert "RuntimeError: 4 characters" in text
    assert "_fail_beside_a_secret" in text
    assert "hush" not in text


def test_an_exception_in_json_stays_in_its_line(json_log: io.StringIO) -> None:
    try:
        _fail_beside_a_secret()
    except RuntimeError:
        logger.exception("it failed")

    assert "Traceback" in str(_read_line(json_log)["exception"])


def test_no_text_can_pass_for_a_line_of_its_own_on_the_console(console_log: io.StringIO) -> None:
    evil = "x\n12:00:00 INFO     forged\r\x1b[2J\u2028\u202e"
    logger.bind(user=evil).info("hello {}", evil)
    try:
        _fail_beside_a_secret()
    except RuntimeError:
        logger.exception("it failed")

    first, second, *rest = console_log.getvalue().split("\n")[:-1]
    assert first[9:].startswith(
        r'INFO     hello x\n12:00:00 INFO     forged\r\x1b[2J\u2028\u202e  user="x\n12'
    )
    assert second.endswith("it failed")
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)


def test_no_text_can_pass_for_a_line_of_its_own_in_json(json_log: io.StringIO) -> None:
    evil = 'x\n{"level": "INFO"}\u2028'
    logger.bind(user=evil).info("{}", evil)

    fields = _read_line(json_log)

    assert fields["message"] == evil
    assert fields["user"] == evil


def test_the_value_of_a_field_cannot_pass_for_another_field_on_the_console(console_log: io.StringIO) -> None:
    logger.bind(user='ann"  context_id=c1', correlation_id="a=b", attempt=1).info("hello")

    assert console_log.getvalue()[9:] == (
        'INFO     hello  user="ann\\"  context_id=c1"  correlation_id="a=b"  attempt=1\n'
    )


@pytest.mark.parametrize("log", ["json_log", "console_log"])
def test_a_field_that_is_none_is_left_out_also_of_a_surrounding_block(
    log: str, request: pytest.FixtureRequest
) -> None:
    stream: io.StringIO = request.getfixturevalue(log)
    with logger.contextualize(correlation_id="outer"):
        logger.bind(correlation_id=None).info("inner")

    assert "correlation_id" not in stream.getvalue()
    assert "outer" not in stream.getvalue()


def test_braces_and_markup_in_a_message_are_only_text(json_log: io.StringIO) -> None:
    text = "{0.__class__} {missing} <red> {"
    logger.info(text)
    logger.bind(value=text).info("{}", text)
    logging.getLogger("library").error(text)

    assert [json.loads(line)["message"] for line in json_log.getvalue().splitlines()] == [text] * 3


def test_values_that_are_no_json_become_text(json_log: io.StringIO) -> None:
    circle: list[object] = []
    circle.append(circle)
    logger.bind(odd=float("nan"), circle=circle, key={(1, 2): 3}, kind=int).info("odd")

    fields = _read_line(json_log)

    assert fields["message"] == "odd"
    assert (fields["odd"], fields["circle"], fields["key"]) == ("nan", "[[...]]", "{(1, 2): 3}")


def test_what_is_below_the_level_is_not_logged() -> None:
    stream = io.StringIO()
    configure_logging(level="WARNING", format="console", stream=stream)

    logger.info("quiet")
    logger.warning("loud")

    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging(level="LOUD", format="json")


def test_configuring_twice_logs_once(json_log: io.StringIO) -> None:
    configure_logging(level="INFO", format="json", stream=json_log)

    logger.info("once")
    logging.getLogger("uvicorn.error").info("started")

    assert len(json_log.getvalue().splitlines()) == 2


def test_libraries_log_the_same_way_under_their_own_name(json_log: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("started on %s", "port")
    logging.getLogger("pymongo.connection").warning("lost")
    logging.getLogger("pymongo.command").debug("a whole document")
    logging.getLogger("httpx2").info("an address with a password")
    logging.getLogger("library").log(35, "between")

    lines = [json.loads(line) for line in json_log.getvalue().splitlines()]
    assert [(line["logger"], line["level"], line["message"]) for line in lines] == [
        ("uvicorn.error", "INFO", "started on port"),
        ("pymongo.connection", "WARNING", "lost"),
        ("library", "Level 35", "between"),
    ]


def test_a_library_whose_arguments_do_not_fit_its_text_is_logged_with_the_text_alone() -> None:
    stream = io.StringIO()
    # Here and not in a fixture: the handlers of the test runner would raise.
    configure_logging(level="INFO", format="json", stream=stream)

    logging.getLogger("library").error("arguments do not fit: %d", "x")

    assert _read_line(stream)["message"] == "arguments do not fit: %d"


def test_the_exception_of_a_library_is_logged_too(json_log: io.StringIO) -> None:
    try:
        _fail_beside_a_secret()
    except RuntimeError:
        logging.getLogger("asyncio").exception("task failed")

    fields = _read_line(json_log)
    assert "RuntimeError: 4 characters" in str(fields["exception"])
    assert "hush" not in json.dumps(fields)


def test_warnings_are_logged_as_lines() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # An earlier call may have been undone behind its back by the test runner.
        logging.captureWarnings(False)
        configure_logging(level="INFO", format="json", stream=stream)
        warnings.warn("old", UserWarning, stacklevel=1)

    assert "UserWarning: old" in str(_read_line(stream)["message"])


def test_without_a_stream_everything_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", format="console")
    logger.info("hello")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("hello\n")


def test_a_stream_that_cannot_show_a_character_gets_its_escape() -> None:
    raw = io.BytesIO()
    configure_logging(level="INFO", format="console", stream=io.TextIOWrapper(raw, encoding="ascii"))

    logger.info("naïve ☃")

    assert raw.getvalue().endswith(rb"na\xefve \u2603" + b"\n")
