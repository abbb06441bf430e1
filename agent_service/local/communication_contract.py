"""What the base service `communication` takes and gives, per channel."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Header
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue

from agent_service.local.email_channel import EmailOutput, check_address
from agent_service.local.execute_contract import ExecuteEnvelope, StrictInput
from agent_service.local.webhook_channel import WebhookOutput, check_webhook_url

CHANNELS = ("email", "webhook", "log")
DEFAULT_SUBJECT = "A message from agent_service"
MAX_RECIPIENTS = 100

#: Characters that some program on the way takes for the end of a line.
_LINE_BREAKS = "\x7f\x85\u2028\u2029"


def _check_line(text: str) -> str:
    if any(character < " " or character in _LINE_BREAKS for character in text):
        raise ValueError("must be one line, without control characters")
    return text


def _read_recipients(value: object) -> tuple[str, ...]:
    """One address or a list of them, each once; ValueError otherwise."""
    addresses = [value] if isinstance(value, str) else value
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        raise ValueError("must be an address or a list of addresses")
    if not 1 <= len(addresses) <= MAX_RECIPIENTS:
        raise ValueError(f"must name 1 to {MAX_RECIPIENTS} addresses")
    return tuple(dict.fromkeys(check_address(address) for address in addresses))


class EmailInput(StrictInput):
    """Send a plain text message."""

    channel: Literal["email"]
    to: Annotated[
        tuple[str, ...], BeforeValidator(_read_recipients, json_schema_input_type=str | list[str])
    ] = Field(description=f"an address such as ann@example.org, or up to {MAX_RECIPIENTS}")
    subject: Annotated[str, Field(max_length=500), AfterValidator(_check_line)] = DEFAULT_SUBJECT
    body: str


class WebhookInput(StrictInput):
    """Send a JSON document by POST."""

    channel: Literal["webhook"]
    url: Annotated[str, Field(max_length=2000), AfterValidator(check_webhook_url)]
    payload: JsonValue


class LogInput(StrictInput):
    """Append a line to the log of messages."""

    channel: Literal["log"]
    message: str
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOutput:
    """`path` is the file of JSON lines, absolute, that the message was appended to."""

    channel: Literal["log"] = "log"
    message_id: str
    path: str


CommunicationInput = Annotated[EmailInput | WebhookInput | LogInput, Field(discriminator="channel")]
CommunicationOutput = Annotated[EmailOutput | WebhookOutput | LogOutput, Field(discriminator="channel")]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key delivers once, over restarts too, and answers with the original output. "
        "Without one, every call delivers.",
    ),
]


class CommunicationCall(ExecuteEnvelope):
    """One attempt to deliver one message."""

    input: CommunicationInput


class CommunicationAnswer(BaseModel):
    """What was delivered."""

    output: CommunicationOutput
