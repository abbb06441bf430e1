"""The settings of callbacks: where clients may have themselves told, and how."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from agent_service.domain.callback import CallbackRules, PortRange
from agent_service.settings.sections import Section
from agent_service.settings.value_types import (
    SECOND,
    WebhookSecrets,
    duration,
    parse_allowed_hosts,
    parse_networks,
    parse_ports,
)
from agent_service.settings.variable import EVERY_ROLE, WORKER, Variable


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
    allowed_ports: Annotated[
        tuple[PortRange, ...],
        BeforeValidator(parse_ports),
        Variable(
            name="CALLBACK_ALLOWED_PORTS",
            about="ports that callbacks may go to besides 443 (and 80 for http://), separated by commas",
            must_be="ports like 8443, or ranges like 9000-9010, separated by commas",
            read_by=EVERY_ROLE,
        ),
    ] = ()
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
        return CallbackRules(
            allowed_hosts=self.allowed_hosts, allow_http=self.allow_http, allowed_ports=self.allowed_ports
        )
