"""The sections of the settings, and the table of their variables in the annotations."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from agent_service.settings.value_types import (
    LOWER_CASE,
    SECOND,
    UPPER_CASE,
    DatabaseName,
    HostName,
    LogFormat,
    LogLevel,
    MongoDriver,
    MongoUri,
    duration,
)
from agent_service.settings.variable import API, DEV, EVERY_ROLE, Variable


class Section(BaseModel):
    """Settings that belong together; `title` is their heading in `.env.example`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    title: ClassVar[str] = ""


class MongoSettings(Section):
    """Where the contexts are stored."""

    title: ClassVar[str] = "MongoDB"

    uri: Annotated[
        MongoUri | None,
        Variable(
            name="MONGODB_URI",
            about="address of the replica set; unset: `dev` starts a mongod of its own",
            must_be="an address that begins with mongodb:// or mongodb+srv://",
            read_by=EVERY_ROLE,
            visibility="uri",
        ),
    ] = None
    database: Annotated[
        DatabaseName,
        Variable(
            name="MONGODB_DATABASE",
            about="name of the database",
            must_be='a name of 1 to 63 bytes without space and any of / \\ . " $ * < > : | ?',
            read_by=EVERY_ROLE,
        ),
    ] = "agent_service"
    driver: Annotated[
        MongoDriver,
        LOWER_CASE,
        Variable(
            name="MONGODB_DRIVER",
            about="`pymongo` or `motor` (needs the extra agent-service[motor])",
            must_be="pymongo or motor",
            read_by=EVERY_ROLE,
        ),
    ] = "pymongo"
    mongod_binary: Annotated[
        Path | None,
        Variable(
            name="MONGOD_BINARY",
            about="the mongod that `dev` starts; unset: the one on the PATH or of the extra `local`",
            must_be="a path",
            read_by=DEV,
        ),
    ] = None


class LimitSettings(Section):
    """What each organization may ask for."""

    title: ClassVar[str] = "Limits of each organization"

    max_open_requests: Annotated[
        int | None,
        Field(ge=1),
        Variable(
            name="ORGANIZATION_MAX_OPEN_REQUESTS",
            about="requests of one organization that may be open at a time, over all processes; unset: any",
            must_be="a whole number, 1 at least",
            read_by=API,
        ),
    ] = None
    submissions_per_minute: Annotated[
        int | None,
        Field(ge=1),
        Variable(
            name="ORGANIZATION_SUBMISSIONS_PER_MINUTE",
            about="requests that one organization may submit in a minute, over all processes; unset: any",
            must_be="a whole number, 1 at least",
            read_by=API,
        ),
    ] = None


class ApiSettings(Section):
    """How the HTTP API is served."""

    title: ClassVar[str] = "HTTP API"

    host: Annotated[
        HostName,
        Variable(name="API_HOST", about="address to listen on", must_be="a host or address", read_by=API),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65535),
        Variable(
            name="API_PORT",
            about="port to listen on; 0 takes a free one",
            must_be="a port from 0 to 65535",
            read_by=API,
        ),
    ] = 8000
    keys_file: Annotated[
        Path | None,
        Variable(
            name="API_KEYS_FILE",
            about="file with API keys, besides those in MongoDB; without a key nobody is served then",
            must_be="a path",
            read_by=API,
        ),
    ] = None
    require_keys: Annotated[
        bool,
        Variable(
            name="API_REQUIRE_KEYS",
            about="serve nobody without an API key, even before the first key is made",
            must_be="true or false",
            read_by=API,
        ),
    ] = False
    allow_anonymous: Annotated[
        bool,
        Variable(
            name="API_ALLOW_ANONYMOUS",
            about="serve beyond this machine without API keys, until the first key is made",
            must_be="true or false",
            read_by=API,
        ),
    ] = False
    max_body_bytes: Annotated[
        int,
        Field(ge=1),
        Variable(
            name="MAX_BODY_BYTES",
            about="largest body of a request, in bytes",
            must_be="a whole number of bytes above 0",
            read_by=API,
        ),
    ] = 1024 * 1024
    body_timeout: Annotated[
        timedelta,
        duration(),
        Variable(
            name="API_BODY_TIMEOUT",
            about="seconds within which the body of a request arrives",
            must_be="a number of seconds above 0 (ten years at most)",
            read_by=API,
        ),
    ] = 30 * SECOND
    max_head_bytes: Annotated[
        int,
        Field(ge=1024),
        Variable(
            name="API_MAX_HEAD_BYTES",
            about="largest head of a request, in bytes; it has 100 headers at most",
            must_be="a whole number of bytes, 1024 at least",
            read_by=API,
        ),
    ] = 32 * 1024
    head_timeout: Annotated[
        timedelta,
        duration(),
        Variable(
            name="API_HEAD_TIMEOUT",
            about="seconds within which the head of a request arrives",
            must_be="a number of seconds above 0 (ten years at most)",
            read_by=API,
        ),
    ] = 10 * SECOND
    max_connections: Annotated[
        int,
        Field(ge=1),
        Variable(
            name="API_MAX_CONNECTIONS",
            about="connections that are open at a time, in each process; more are refused",
            must_be="a whole number, 1 at least",
            read_by=API,
        ),
    ] = 1_000


class LogSettings(Section):
    """What is logged, and how."""

    title: ClassVar[str] = "Logging"

    level: Annotated[
        LogLevel,
        UPPER_CASE,
        Variable(
            name="LOG_LEVEL",
            about="least severe level that is logged",
            must_be="TRACE, DEBUG, INFO, WARNING, ERROR or CRITICAL",
            read_by=EVERY_ROLE,
        ),
    ] = "INFO"
    format: Annotated[
        LogFormat,
        LOWER_CASE,
        Variable(
            name="LOG_FORMAT",
            about="`console` for people, `json` for machines (one object per line)",
            must_be="console or json",
            read_by=EVERY_ROLE,
        ),
    ] = "console"


class SmtpSettings(Section):
    """The mail server that the local communication service hands its messages to, if any."""

    title: ClassVar[str] = "Mail server of the local communication service"

    host: Annotated[
        HostName | None,
        Variable(
            name="SMTP_HOST",
            about="mail server; unset: messages are only written to the outbox",
            must_be="a host or address",
            read_by=DEV,
        ),
    ] = None
    port: Annotated[
        int,
        Field(ge=1, le=65535),
        Variable(
            name="SMTP_PORT", about="port of the mail server", must_be="a port from 1 to 65535", read_by=DEV
        ),
    ] = 587
    username: Annotated[
        str | None,
        Variable(name="SMTP_USERNAME", about="user at the mail server", must_be="text", read_by=DEV),
    ] = None
    password: Annotated[
        SecretStr | None,
        Variable(
            name="SMTP_PASSWORD",
            about="password at the mail server",
            must_be="text",
            read_by=DEV,
            visibility="secret",
        ),
    ] = None
    sender: Annotated[
        str,
        Variable(
            name="SMTP_FROM",
            about="sender of the messages",
            must_be="a mail address",
            read_by=DEV,
        ),
    ] = "agent-service@localhost"
    starttls: Annotated[
        bool,
        Variable(
            name="SMTP_STARTTLS",
            about="encrypt the connection with STARTTLS",
            must_be="true or false",
            read_by=DEV,
        ),
    ] = True
