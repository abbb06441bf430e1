"""Email: a message as a file in a Maildir, or handed to an SMTP server when one is configured."""

import mailbox
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import aiosmtplib
from loguru import logger

from agent_service.local.execute_contract import ExecuteProblem

DEFAULT_SENDER = "agent-service@localhost.localdomain"
#: RFC 5321 section 4.5.3.1 limits the path to 256 octets, its angle brackets included.
_LONGEST_ADDRESS = 254
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """An SMTP server to hand messages to. `security`: TLS from the first byte, STARTTLS, or none."""

    host: str
    port: int = 587
    security: Literal["tls", "starttls", "none"] = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailOutput:
    """
    What became of the message.

    `path` is its file, absolute, or null when it went by SMTP; `refused` lists the recipients that the SMTP
    server did not take.
    """

    channel: Literal["email"] = "email"
    message_id: str
    transport: Literal["maildir", "smtp"]
    path: str | None
    to: tuple[str, ...]
    refused: tuple[str, ...] = ()


def check_address(text: str) -> str:
    """The address itself, or ValueError: plain, in ASCII, without a display name."""
    if len(text) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(text) or ".." in text:
        raise ValueError("must be one plain address such as ann@example.org, in ASCII")
    Address(addr_spec=text)
    return text


def compose(*, message_id: str, sender: str, to: Sequence[str], subject: str, body: str) -> EmailMessage:
    """The message, its addresses checked before; the library refuses line breaks in headers as well."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = message_id
    message.set_content(body)
    return message


def store_in_maildir(folder: Path, name: str, message: EmailMessage) -> Path:
    """
    Put the message into the Maildir, once for each `name`: a second call finds the file of the first.

    The file appears whole, under `new`, after it is on the disk; a mail program may have moved it to `cur`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    mailbox.Maildir(folder, create=True).close()
    host = socket.gethostname().replace("/", "_").replace(":", "_")
    target = folder / "new" / f"{name}.{host}"
    if target.exists():
        return target
    for moved in sorted((folder / "cur").glob(f"{name}.*")):
        return moved
    unfinished = folder / "tmp" / target.name
    with unfinished.open("wb") as file:
        file.write(message.as_bytes())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)
    return target


async def send_by_smtp(settings: SmtpSettings, message: EmailMessage, to: Sequence[str]) -> tuple[str, ...]:
    """
    Hand the message over and return the recipients that were refused while others were taken.

    Raises ExecuteProblem: 422 when the server refuses for good, 503 when another try may help.
    """
    try:
        refused, _ = await aiosmtplib.send(
            message,
            recipients=list(to),
            hostname=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            timeout=settings.timeout.total_seconds(),
        )
    except aiosmtplib.SMTPRecipientsRefused as error:
        raise _refusal(min(recipient.code for recipient in error.recipients), str(error)) from error
    except aiosmtplib.SMTPAuthenticationError as error:
        raise _unavailable(f"the SMTP server refused the credentials (code {error.code})") from error
    except aiosmtplib.SMTPResponseException as error:
        raise _refusal(error.code, error.message) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _unavailable(f"the SMTP server did not take the message: {error}") from error
    if refused:
        logger.warning("the SMTP server refused {} of {} recipients", len(refused), len(to))
    return tuple(refused)


def _refusal(code: int, text: str) -> ExecuteProblem:
    if 400 <= code < 500:
        return _unavailable(f"the SMTP server said: {code} {text}")
    return ExecuteProblem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "email_refused", f"the SMTP server said: {code} {text}"
    )


def _unavailable(detail: str) -> ExecuteProblem:
    return ExecuteProblem(HTTPStatus.SERVICE_UNAVAILABLE, "smtp_unavailable", detail)
