import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from agent_service.local.email_channel import (
    DEFAULT_SENDER,
    SmtpSettings,
    check_address,
    compose,
    send_by_smtp,
    store_in_maildir,
)
from agent_service.local.execute_contract import ExecuteProblem


class Mailbox:
    """An SMTP server that takes what it gets, except for the recipients it has an answer for."""

    def __init__(self) -> None:
        self.messages: list[Envelope] = []
        self.refusals: dict[str, str] = {}
        self.port = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.messages.append(envelope)
        return "250 OK"


@pytest.fixture
async def smtp() -> AsyncIterator[Mailbox]:
    running = Mailbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(running, hostname="localhost"), "127.0.0.1", 0
    )
    running.port = server.sockets[0].getsockname()[1]
    yield running
    server.close()
    await server.wait_closed()


def settings(smtp: Mailbox) -> SmtpSettings:
    return SmtpSettings(host="127.0.0.1", port=smtp.port, security="none")


MESSAGE = compose(
    message_id="<m1@local>",
    sender=DEFAULT_SENDER,
    to=["ann@example.org", "bob@example.org"],
    subject="Grüße",
    body="Zwei\nZeilen mit ä\n.\n",
)


async def test_a_message_arrives_at_the_smtp_server_as_it_was_written(smtp: Mailbox) -> None:
    assert await send_by_smtp(settings(smtp), MESSAGE, ["ann@example.org", "bob@example.org"]) == ()
    (envelope,) = smtp.messages
    assert (envelope.mail_from, envelope.rcpt_tos) == (DEFAULT_SENDER, ["ann@example.org", "bob@example.org"])
    assert isinstance(envelope.content, bytes)
    received = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert (received["Subject"], received["Message-ID"]) == ("Grüße", "<m1@local>")
    assert received.get_content().replace("\r\n", "\n") == "Zwei\nZeilen mit ä\n.\n"


async def test_recipients_that_are_refused_while_others_are_not_are_listed(smtp: Mailbox) -> None:
    smtp.refusals["bob@example.org"] = "550 no such user"
    refused = await send_by_smtp(settings(smtp), MESSAGE, ["ann@example.org", "bob@example.org"])
    assert refused == ("bob@example.org",)


@pytest.mark.parametrize(("answer", "status"), [("550 no such user", 422), ("450 try later", 503)])
async def test_a_refusal_of_everybody_is_told_by_class(smtp: Mailbox, answer: str, status: int) -> None:
    smtp.refusals["ann@example.org"] = answer
    with pytest.raises(ExecuteProblem) as problem:
        await send_by_smtp(settings(smtp), MESSAGE, ["ann@example.org"])
    assert problem.value.status == status
    assert smtp.messages == []


async def test_a_server_that_is_gone_may_be_tried_again(smtp: Mailbox) -> None:
    gone = SmtpSettings(host="127.0.0.1", port=1, security="none")
    with pytest.raises(ExecuteProblem) as problem:
        await send_by_smtp(gone, MESSAGE, ["ann@example.org"])
    assert (problem.value.status, problem.value.code) == (503, "smtp_unavailable")


def test_a_message_is_filed_once_also_after_it_was_read(tmp_path: Path) -> None:
    path = store_in_maildir(tmp_path / "mail", "name", MESSAGE)
    assert path.parent == tmp_path / "mail" / "new"
    assert store_in_maildir(tmp_path / "mail", "name", MESSAGE) == path
    read = path.rename(tmp_path / "mail" / "cur" / f"{path.name}:2,S")
    assert store_in_maildir(tmp_path / "mail", "name", MESSAGE) == read
    assert len([file for file in (tmp_path / "mail").rglob("*") if file.is_file()]) == 1


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "ann@",
        "@example.org",
        "ann@example.org\nBcc: eve@example.org",
        "Ann <ann@example.org>",
        "ann@example.org, bob@example.org",
        "a..b@example.org",
        ".a@example.org",
        "ann@-example.org",
        "änn@example.org",
        "a" * 65 + "@example.org",
        "a@" + "b" * 260,
    ],
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_address(address)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(SmtpSettings(host="h", username="u", password="secret"))
