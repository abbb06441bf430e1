"""The sections of the settings, and the table of their variables in the annotations."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from agent_service.domain.callback import CallbackRules
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
    WebhookSecrets,
    duration,
    parse_allowed_hosts,
    parse_networks,
)
from agent_service.settings.variable import API, DEV, EVERY_ROLE, WORKER, Variable


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
        Variable(name="API_KEYS_FILE", about="file with the API keys", must_be="a path", read_by=API),
    ] = None
    allow_anonymous: Annotated[
        bool,
        Variable(
            name="API_ALLOW_ANONYMOUS",
            about="serve beyond this machine without API keys",
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


class CallbackSettings(Section):
    """Telling clients that their requests have ended, and which addresses they may name for it."""

    title: ClassVar[str] = "Callbacks"

    allowed_hosts: Annotated[
        tuple[str, ...],
        BeforeValidator(parse_allowed_hosts),
        Variable(
            name="CALLBACK_ALLOWED_HOSTS",
            about="hosts that callbacks may go to, separated by commas; unset: callbacks are off",
            must_be="host names like hooks.example.org or *.example.org, separated by commas",
            read_by=EVERY_ROLE,
        ),
    ] = ()
    secret: Annotated[
        WebhookSecrets | None,
        Variable(
            name="CALLBACK_SECRET",
            about="what callbacks are signed with; two, separated by a comma, while receivers change",
            must_be="whsec_ and 24 to 64 bytes in base64; two or more separated by commas",
            read_by=WORKER,
            visibility="secret",
        ),
    ] = None
    allow_http: Annotated[
        bool,
        Variable(
            name="CALLBACK_ALLOW_HTTP",
            about="let callbacks go to http:// addresses too, for development",
            must_be="true or false",
            read_by=EVERY_ROLE,
        ),
    ] = False
    allowed_networks: Annotated[
        tuple[IPv4Network | IPv6Network, ...],
        BeforeValidator(parse_networks),
        Variable(
            name="CALLBACK_ALLOWED_NETWORKS",
            about="networks beside the public ones that callbacks may go to, separated by commas",
            must_be="networks like 10.1.0.0/16 or fd00::/8, separated by commas",
            read_by=WORKER,
        ),
    ] = ()
    concurrency: Annotated[
        int,
        Field(ge=1, le=1000),
        Variable(
            name="CALLBACK_CONCURRENCY",
            about="callbacks at the same time, in each process; one host has a quarter of them",
            must_be="a whole number from 1 to 1000",
            read_by=WORKER,
        ),
    ] = 20
    timeout: Annotated[
        timedelta,
        duration(),
        Variable(
            name="CALLBACK_TIMEOUT",
            about="seconds that a receiver has to answer",
            must_be="a number of seconds above 0 (ten years at most)",
            read_by=WORKER,
        ),
    ] = 10 * SECOND

    @property
    def rules(self) -> CallbackRules:
        """Which addresses callbacks may go to."""
        return CallbackRules(allowed_hosts=self.allowed_hosts, allow_http=self.allow_http)


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
