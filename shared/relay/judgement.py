"""The consequences of an attempt: the next state of the delivery, and of its destination. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from shared.domain.deliveries import MAX_KEPT_ATTEMPTS, Attempt, Delivery, DeliveryStatus
from shared.relay.schedule import MAX_REFUSALS, MAX_RETRY_AFTER, Schedule

UNAUTHORIZED, FORBIDDEN, GONE = 401, 403, 410
SLOW_DOWN = frozenset({429, 502, 503, 504})  # Standard Webhooks: their `Retry-After` holds for the destination
NO_TOKEN, NO_TARGET = "noToken", "noTarget"
MAX_DIGITS = 6  # of the seconds of a `Retry-After`: days. `int` refuses thousands of digits
_SUCCESS, _REFUSALS, _SERVER_ERRORS = range(200, 300), range(300, 500), 500


class Effect(Enum):
    """The consequence of an attempt for the destination."""

    NONE = auto()
    WELL = auto()
    FAILED = auto()
    RESTS = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery after an attempt, and the effect on its destination. `rest` is the `Retry-After` of RESTS."""

    delivery: Delivery
    effect: Effect
    rest: timedelta = timedelta()


def judge(
    delivery: Delivery, attempt: Attempt, headers: Mapping[str, str], now: datetime, schedule: Schedule
) -> Verdict:
    """Return the consequences of an attempt that has just ended.

    Parameters
    ----------
    headers
        The headers of the answer; empty if there was none.
    now
        The end of the attempt.
    """
    tried = with_attempt(delivery, attempt)
    status = attempt.status
    rest = retry_after(headers, now) if status in SLOW_DOWN else None
    effect = _effect(attempt, rest)
    if status in _SUCCESS or (delivery.wants_answer and status is not None):  # any answer is what Graph waits for
        done = replace(tried, status=DeliveryStatus.DELIVERED, delivered_at=now, next_attempt_at=None, body=None)
        return Verdict(done, effect, rest or timedelta())
    if delivery.wants_answer:
        return Verdict(_dead(tried), effect)
    if status == GONE:
        return Verdict(replace(tried, status=DeliveryStatus.DISABLED, next_attempt_at=None), effect)
    if _is_refusal(attempt):
        delay = schedule.refusal_delay(_count_refusals(tried))
    else:
        delay = max(schedule.retry_delay(_count_attempts(tried)), rest or timedelta())
    if delay is None:
        return Verdict(_dead(tried), effect)
    return Verdict(_wait_or_give_up(tried, now, now + delay, schedule), effect, rest or timedelta())


def with_attempt(delivery: Delivery, attempt: Attempt) -> Delivery:
    """Return the delivery with one more attempt. Only the first one and the latest ones are kept."""
    attempts = (*delivery.attempts, attempt)
    if len(attempts) > MAX_KEPT_ATTEMPTS:
        attempts = (attempts[0], *attempts[-MAX_KEPT_ATTEMPTS + 1 :])
    return replace(delivery, attempts=attempts)


def is_not_sent(attempt: Attempt) -> bool:
    """True if the destination was not asked, because there was no token or no target: it says nothing about it."""
    return (attempt.error or "").partition(":")[0] in {NO_TOKEN, NO_TARGET}


def give_up(delivery: Delivery, error: str, now: datetime) -> Delivery:
    """Return the delivery as dead, with an error that is no attempt."""
    return _dead(with_attempt(delivery, Attempt(now, error=error)))


def is_expired(delivery: Delivery, now: datetime, schedule: Schedule) -> bool:
    """True if the delivery has waited for 24 hours."""
    return now >= delivery.retry_since + schedule.window


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait of a `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), at most an hour; else None."""
    text = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= MAX_DIGITS else 10**MAX_DIGITS
        return min(timedelta(seconds=seconds), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
        return max(min(moment - now, MAX_RETRY_AFTER), timedelta())
    except (ValueError, TypeError, OverflowError):
        return None


def _effect(attempt: Attempt, rest: timedelta | None) -> Effect:
    if attempt.status == GONE:
        return Effect.GONE
    if rest is not None:
        return Effect.RESTS
    if attempt.status is None:
        return Effect.NONE if is_not_sent(attempt) else Effect.FAILED
    return Effect.FAILED if attempt.status >= _SERVER_ERRORS else Effect.WELL


def _wait_or_give_up(tried: Delivery, now: datetime, next_attempt_at: datetime, schedule: Schedule) -> Delivery:
    if tried.body is None:
        return give_up(tried, "bodyTooLarge", now)
    if is_expired(tried, now, schedule):
        return give_up(tried, "expired", now)
    return replace(tried, next_attempt_at=next_attempt_at)


def _is_refusal(attempt: Attempt) -> bool:
    return attempt.status is not None and attempt.status in _REFUSALS and attempt.status not in SLOW_DOWN


def _count_attempts(delivery: Delivery) -> int:
    """Return how many attempts were made since the begin of the schedule: a replay begins it anew."""
    return sum(each.at >= delivery.retry_since for each in delivery.attempts)


def _count_refusals(delivery: Delivery) -> int:
    """Return how many attempts since the begin of the schedule were refused; `MAX_REFUSALS` ends it in any case."""
    refused = [each.status for each in delivery.attempts if each.at >= delivery.retry_since and _is_refusal(each)]
    # After a 401 the same bearer is sent once more, a second later. It is one of the attempts, with no wait of its own.
    repeated = int(len(refused) > 1 and refused[0] == UNAUTHORIZED)
    return len(refused) if len(refused) >= MAX_REFUSALS else len(refused) - repeated


def _dead(delivery: Delivery) -> Delivery:
    return replace(delivery, status=DeliveryStatus.DEAD, next_attempt_at=None)
