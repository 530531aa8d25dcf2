"""One attempt: a request to a bot with Graph's bearer or with our own proof, and what it means for the delivery."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from shared import telemetry
from shared.clock import Clock
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import NOTIFICATION_TYPE, Attempt, Delivery, DeliveryStatus
from shared.errors import TokenUnavailable
from shared.relay.exchange import Bearer
from shared.relay.judgement import FORBIDDEN, NO_TOKEN, UNAUTHORIZED, Verdict, judge
from shared.relay.schedule import Schedule
from shared.relay.sender import Answer, NotSent
from shared.relay.signing import webhook_headers

LATE_TIMEOUT = timedelta(seconds=15)  # Standard Webhooks: 15 to 30 seconds


class Sender(Protocol):
    """Sends a request to a bot. Raises `NotSent`."""

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: timedelta,  # noqa: ASYNC109 (it covers connecting, sending and reading together)
        *,
        read_body: bool = False,
    ) -> Answer:
        """Return the answer, with its body only if `read_body` is true."""
        ...


class Tokens(Protocol):
    """Tokens of the bots for other audiences than Graph."""

    async def get(
        self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False, audience: str | None = None
    ) -> str:
        """Return a token. Raises `TokenUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Transmission:
    """The way of one attempt.

    Parameters
    ----------
    body
        What is sent, if it is not the body of the row: a row may be too small for it.
    bearer
        None for an event, and for a late delivery.
    timeout
        The time of the attempt, with the request for a token, connecting and reading.
    reads_body
        True if the body of the answer is read too.
    """

    body: bytes | None = field(default=None, repr=False)
    bearer: Bearer | None = None
    timeout: timedelta = LATE_TIMEOUT
    reads_body: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, what it means, and the bot's answer, None if there was none."""

    attempt: Attempt
    verdict: Verdict
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes single attempts. It stores nothing."""

    targets: RelayTargets
    sender: Sender
    tokens: Tokens
    clock: Clock
    schedule: Schedule

    async def make(self, delivery: Delivery, way: Transmission) -> Tried:
        """Send a delivery once, with Graph's bearer while it is usable, else with our own proof.

        Raises
        ------
        LookupError
            The target is not configured.
        ValueError
            The target wants a `to`, and the destination has none.
        """
        began = self.clock.now()
        is_late = way.bearer is None or not way.bearer.is_usable(began)
        answer: Answer | None = None
        try:
            answer = await self._send(delivery, way, is_late=is_late)
            attempt = Attempt(began, answer.status, latency=self.clock.now() - began)
        except NotSent as failure:
            attempt = Attempt(began, error=failure.error, latency=self.clock.now() - began)
        except TokenUnavailable as failure:
            attempt = Attempt(began, error=f"{NO_TOKEN}: {failure}")
        headers = answer.headers if answer else {}
        verdict = judge(delivery, attempt, headers, self.clock.now(), self.schedule)
        _log_attempt(verdict.delivery, attempt, is_late=is_late)
        return Tried(attempt, verdict, answer)

    async def _send(self, delivery: Delivery, way: Transmission, *, is_late: bool) -> Answer:
        """Send the body.

        Raises
        ------
        NotSent
            There was no answer.
        TokenUnavailable
            There is no token, and the bot does not accept the signature alone.
        """
        target = self.targets.get(delivery.destination.target)
        if target is None:
            raise LookupError(f"The target {delivery.destination.target} is not configured.")
        url = target.url_for(delivery.destination.to)
        body = way.body if way.body is not None else delivery.body or b""
        began = self.clock.now()
        if way.bearer and not is_late:
            proof = {"webhook-id": delivery.id, "Authorization": way.bearer.header}
        else:
            proof = await self._proof(delivery, target, body, way.timeout)
        left = max(way.timeout - (self.clock.now() - began), timedelta())
        headers = {**delivery.headers, **proof}
        answer = await self.sender.post(url, headers, body, left, read_body=way.reads_body)
        if target.audience and "Authorization" not in proof and answer.status in {UNAUTHORIZED, FORBIDDEN}:
            raise TokenUnavailable("no token could be obtained, and the bot does not accept the signature alone.")
        return answer

    async def _proof(
        self,
        delivery: Delivery,
        target: RelayTarget,
        body: bytes,
        timeout: timedelta,  # noqa: ASYNC109 (the wait for a token is a part of the attempt's time)
    ) -> dict[str, str]:
        """Return the headers that prove a late delivery or an event to be ours: our token, a signature, or both.

        Raises
        ------
        TokenUnavailable
            No token could be obtained, and the target has no secret for a signature.
        """
        headers = webhook_headers(delivery.id, self.clock.now(), body, target.secret)
        if target.audience:
            try:
                headers["Authorization"] = f"Bearer {await self._token(delivery, target.audience, timeout)}"
            except TokenUnavailable:
                if target.secret is None:
                    raise
        return headers

    async def _token(
        self,
        delivery: Delivery,
        audience: str,
        timeout: timedelta,  # noqa: ASYNC109 (as above)
    ) -> str:
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await self.tokens.get(delivery.tenant_id, delivery.app_id, audience=audience)
        except TimeoutError:
            raise TokenUnavailable(f"No token was issued within {timeout.total_seconds():g} s.") from None


def _log_attempt(delivery: Delivery, attempt: Attempt, *, is_late: bool) -> None:
    kind = "event" if delivery.type != NOTIFICATION_TYPE else "late" if is_late else "passThrough"
    outcome = str(attempt.status) if attempt.status else (attempt.error or "").partition(":")[0]
    telemetry.RELAY_DELIVERIES.add(outcome=outcome, target=delivery.destination.target, kind=kind)
    telemetry.RELAY_LATENCY.add(attempt.latency.total_seconds(), outcome=outcome)
    if delivery.status is DeliveryStatus.PENDING:
        telemetry.RELAY_FAILED(
            target=delivery.destination.target,
            callId=delivery.call_id,
            type=delivery.type,
            status=attempt.status,
            error=attempt.error,
            attempts=len(delivery.attempts),
        )
