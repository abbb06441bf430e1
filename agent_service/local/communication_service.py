"""The base service `communication`: real messages by email, webhook or log, over the contract `execute`."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI
from loguru import logger
from pydantic import TypeAdapter

from agent_service.domain.json_value import JsonObject
from agent_service.local.communication_contract import (
    CHANNELS,
    CommunicationAnswer,
    CommunicationCall,
    CommunicationInput,
    CommunicationOutput,
    EmailInput,
    IdempotencyKey,
    LogInput,
    LogOutput,
    WebhookInput,
)
from agent_service.local.delivery_ledger import DeliveryLedger, KeyReused, digest_of
from agent_service.local.email_channel import (
    DEFAULT_SENDER,
    EmailOutput,
    SmtpSettings,
    compose,
    send_by_smtp,
    store_in_maildir,
)
from agent_service.local.execute_contract import (
    PROBLEM_RESPONSES,
    ExecuteProblem,
    Problem,
    check_json,
    install_problems,
)
from agent_service.local.webhook_channel import WebhookOutput, WebhookSender

_OUTPUT: TypeAdapter[EmailOutput | WebhookOutput | LogOutput] = TypeAdapter(CommunicationOutput)


class Courier:
    """
    Delivers messages, each under an identity that its idempotency key decides.

    The outbox holds `mail` (a Maildir, without SMTP), `messages.jsonl` (the channel `log`) and `deliveries`
    (what was delivered under which key).
    """

    def __init__(self, outbox: Path, *, smtp: SmtpSettings | None, sender: str) -> None:
        self._outbox = outbox.absolute()
        self._smtp = smtp
        self._sender = sender
        self._webhooks = WebhookSender()
        self._ledger = DeliveryLedger(self._outbox / "deliveries")

    async def close(self) -> None:
        """Wait for what is being delivered, then close the connections."""
        await self._ledger.finish()
        await self._webhooks.close()

    async def deliver(self, message: CommunicationInput, key: str | None) -> CommunicationOutput:
        """Deliver, or find what was delivered under this key before. Raises ExecuteProblem."""
        content: JsonObject = message.model_dump(mode="python")
        check_json(content, "/input")
        if key is None:
            return await self._send(message, digest_of(uuid.uuid4().hex))

        async def send() -> JsonObject:
            return asdict(await self._send(message, digest_of(key)))

        try:
            delivery = await self._ledger.deliver_once(key, content, send)
        except KeyReused as error:
            raise ExecuteProblem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "idempotency_conflict",
                "this Idempotency-Key was used before for another input",
            ) from error
        return _OUTPUT.validate_python(delivery.output)

    async def _send(self, message: CommunicationInput, name: str) -> CommunicationOutput:
        output: CommunicationOutput
        if isinstance(message, EmailInput):
            output = await self._send_email(message, name)
        elif isinstance(message, WebhookInput):
            output = await self._webhooks.send(message.url, message.payload, message_id=name)
        else:
            output = await asyncio.to_thread(self._append, message, name)
        logger.bind(channel=output.channel).info("message {} was delivered by {}", name, output.channel)
        return output

    async def _send_email(self, message: EmailInput, name: str) -> EmailOutput:
        message_id = f"<{name}@agent-service.localdomain>"
        composed = compose(
            message_id=message_id,
            sender=self._sender,
            to=message.to,
            subject=message.subject,
            body=message.body,
        )
        if self._smtp is None:
            path = await asyncio.to_thread(store_in_maildir, self._outbox / "mail", name, composed)
            return EmailOutput(message_id=message_id, transport="maildir", path=str(path), to=message.to)
        refused = await send_by_smtp(self._smtp, composed, message.to)
        return EmailOutput(message_id=message_id, transport="smtp", path=None, to=message.to, refused=refused)

    def _append(self, message: LogInput, name: str) -> LogOutput:
        path = self._outbox / "messages.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": message.level,
            "message_id": name,
            "message": message.message,
        }
        with path.open("ab", buffering=0) as file:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        return LogOutput(message_id=name, path=str(path))


def create_communication_app(
    outbox: Path, *, smtp: SmtpSettings | None = None, sender: str = DEFAULT_SENDER
) -> FastAPI:
    """The service as an ASGI application: `POST /execute`, `GET /healthz`, `GET /openapi.json`."""
    courier = Courier(outbox, smtp=smtp, sender=sender)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await courier.close()

    app = FastAPI(
        title="Communication service",
        version="1",
        summary="Messages by email, webhook or log, each delivered once per Idempotency-Key.",
        lifespan=lifespan,
        responses={422: {"model": Problem}},
    )
    install_problems(app, discriminator="channel", known=CHANNELS)

    @app.post("/execute", operation_id="execute", responses=PROBLEM_RESPONSES)
    async def execute(call: CommunicationCall, idempotency_key: IdempotencyKey = None) -> CommunicationAnswer:
        """Deliver the message by the channel that `input.channel` names."""
        return CommunicationAnswer(output=await courier.deliver(call.input, idempotency_key))

    @app.get("/healthz", operation_id="healthz")
    async def healthz() -> dict[str, str]:
        """Say that the service takes calls."""
        return {"status": "ok"}

    return app
