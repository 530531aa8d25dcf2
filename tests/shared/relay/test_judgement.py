"""The consequences of an attempt: for any answer, the delivery and its destination get exactly one state."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.domain.deliveries import MAX_KEPT_ATTEMPTS, Attempt, Delivery, DeliveryStatus, Destination
from shared.domain.leases import Timing
from shared.relay.judgement import SLOW_DOWN, Effect, Verdict, judge, retry_after, with_attempt
from shared.relay.schedule import MAX_RETRY_AFTER, MAX_RETRY_DELAY, Schedule

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
SCHEDULE = Schedule(Timing(), Random(1))
NEW = Delivery(
    "00-0000000000000001-00000000",
    ("call",),
    1,
    Destination("bot", None),
    "notification",
    *("tenant", "app", NOON, NOON),
    body=b"{}",
)
statuses = st.integers(100, 999)
results = st.one_of(
    st.builds(lambda status: Attempt(NOON, status), statuses),
    st.builds(lambda error: Attempt(NOON, error=error), st.sampled_from(["timeout", "refused", "tls", "noToken: why"])),
)
waits = st.one_of(st.none(), st.integers(0, 10**6).map(str), st.sampled_from(["soon", "-1", "1.5", "", "9" * 400]))


def judged(attempt: Attempt, delivery: Delivery = NEW, at: datetime = NOON, wait: str | None = None) -> Verdict:
    headers = {"Retry-After": wait} if wait is not None else {}
    return judge(delivery, attempt, headers, at, SCHEDULE)


class TestStates:
    @given(results, waits, st.booleans(), st.booleans())
    def test_each_result_gives_one_state(self, attempt: Attempt, wait: str | None, asks: bool, has_body: bool) -> None:
        headers = {"retry-after": wait} if wait is not None else {}
        before = replace(NEW, wants_answer=asks, body=b"{}" if has_body else None)
        verdict = judge(before, attempt, headers, NOON, SCHEDULE)
        after = verdict.delivery
        assert attempt in after.attempts
        assert (after.status is DeliveryStatus.PENDING) == (after.next_attempt_at is not None)
        assert (after.status is DeliveryStatus.DELIVERED) == (after.delivered_at is not None)
        if after.status is DeliveryStatus.DELIVERED:
            assert after.body is None
        if after.next_attempt_at:
            assert NOON + SECOND <= after.next_attempt_at <= NOON + max(MAX_RETRY_AFTER, MAX_RETRY_DELAY)
        if asks:
            assert after.status is (DeliveryStatus.DEAD if attempt.status is None else DeliveryStatus.DELIVERED)

    @given(results, st.integers(0, 40))
    def test_only_so_many_attempts_are_kept(self, attempt: Attempt, number: int) -> None:
        delivery = NEW
        for index in range(number):
            delivery = with_attempt(delivery, Attempt(NOON + index * SECOND, 500))
        after = judged(attempt, delivery).delivery
        assert len(after.attempts) <= MAX_KEPT_ATTEMPTS + 1  # an error that is no attempt may come beside the last one
        if number:
            assert after.attempts[0].at == NOON

    @pytest.mark.parametrize(
        ("status", "expected", "effect"),
        [
            (200, DeliveryStatus.DELIVERED, Effect.WELL),
            (299, DeliveryStatus.DELIVERED, Effect.WELL),
            (302, DeliveryStatus.PENDING, Effect.WELL),
            (401, DeliveryStatus.PENDING, Effect.WELL),
            (404, DeliveryStatus.PENDING, Effect.WELL),
            (410, DeliveryStatus.DISABLED, Effect.GONE),
            (429, DeliveryStatus.PENDING, Effect.WELL),
            (500, DeliveryStatus.PENDING, Effect.FAILED),
            (503, DeliveryStatus.PENDING, Effect.FAILED),
            (None, DeliveryStatus.PENDING, Effect.FAILED),
        ],
        ids=str,
    )
    def test_a_first_attempt(self, status: int | None, expected: DeliveryStatus, effect: Effect) -> None:
        verdict = judged(Attempt(NOON, status, None if status else "timeout"))
        assert (verdict.delivery.status, verdict.effect) == (expected, effect)

    @given(st.lists(st.integers(300, 499), min_size=1, max_size=12))
    def test_a_refused_delivery_is_dead_after_three_to_five_attempts(self, answers: list[int]) -> None:
        refusals = [status for status in answers if status != 410 and status not in SLOW_DOWN]
        assume(len(refusals) >= 5)
        delivery, made, now = NEW, 0, NOON
        while delivery.status is DeliveryStatus.PENDING:
            delivery = judged(Attempt(now, refusals[made]), delivery, now).delivery
            made += 1
            now = delivery.next_attempt_at or now
        assert delivery.status is DeliveryStatus.DEAD
        assert 3 <= made <= 5
        assert now - NOON <= timedelta(minutes=2)

    def test_it_is_given_up_after_24_hours(self) -> None:
        last = judged(Attempt(NOON + 24 * HOUR - SECOND, 500), at=NOON + 24 * HOUR - SECOND).delivery
        dead = judged(Attempt(NOON + 24 * HOUR, 500), at=NOON + 24 * HOUR).delivery
        assert last.status is DeliveryStatus.PENDING
        assert (dead.status, dead.attempts[-1].error) == (DeliveryStatus.DEAD, "expired")


class TestRetryAfter:
    @pytest.mark.parametrize("status", sorted(SLOW_DOWN), ids=str)
    def test_it_holds_for_the_destination_and_the_delivery(self, status: int) -> None:
        verdict = judged(Attempt(NOON, status), wait="600")
        assert (verdict.effect, verdict.rest) == (Effect.RESTS, 600 * SECOND)
        assert verdict.delivery.next_attempt_at == NOON + 600 * SECOND

    @pytest.mark.parametrize("status", [200, 400, 404, 500, 501], ids=str)
    def test_other_answers_have_none(self, status: int) -> None:
        assert judged(Attempt(NOON, status), wait="600").effect is not Effect.RESTS

    def test_an_answer_for_graph_may_have_one_too(self) -> None:
        verdict = judged(Attempt(NOON, 503), replace(NEW, wants_answer=True), wait="600")
        assert (verdict.delivery.status, verdict.effect) == (DeliveryStatus.DELIVERED, Effect.RESTS)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0", timedelta()),
            (" 120 ", 120 * SECOND),
            ("86400", HOUR),
            ("9" * 400, HOUR),
            ("Mon, 02 Mar 2026 12:00:30 GMT", 30 * SECOND),
            ("Mon, 02 Mar 2026 11:00:00 GMT", timedelta()),
            ("Tue, 03 Mar 2026 12:00:00 GMT", HOUR),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("٣", None),
        ],
        ids=[
            "none",
            "seconds",
            "a day",
            "huge",
            "date",
            "past",
            "next day",
            "text",
            "negative",
            "empty",
            "Arabic digit",
        ],
    )
    def test_it_counts_at_most_an_hour(self, text: str, expected: timedelta | None) -> None:
        assert retry_after({"RETRY-AFTER": text}, NOON) == expected

    @given(st.text())
    def test_no_text_makes_it_fail(self, text: str) -> None:
        found = retry_after({"retry-after": text}, NOON)
        assert found is None or timedelta() <= found <= MAX_RETRY_AFTER

    def test_digits_without_end_are_an_hour(self) -> None:
        """An error would leave the attempt unwritten, and the delivery would be sent again each minute."""
        assert retry_after({"Retry-After": "9" * 8_000}, NOON) == MAX_RETRY_AFTER
