"""The explanations that the API shows for ends, failed operations and failing keepAlives."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.api.views import FAULT_OWNERS, call_view, operation_view
from shared.domain.calls import Call, Operation, Termination, TerminationSource
from shared.domain.leases import RenewalFailure, Timing
from shared.domain.termination import catalogue

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
CALL = Call("call", "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11", "established", NOON, NOON)
ENDED = replace(CALL, ended_at=NOON, termination=Termination(TerminationSource.NOTIFICATION, "why", "empty"))
OPERATION = Operation("operation", "call", "recordOperation", "running", NOON)


def test_a_failed_operation_has_an_explanation() -> None:
    failed = replace(OPERATION, status="failed", finished_at=NOON, code=400, subcode=8508)
    shown = operation_view(failed, CALL).explanation
    assert shown is not None
    assert (shown.reason, shown.category) == ("The media operation was cancelled.", "operation")
    assert shown.action


def test_a_lost_operation_has_an_explanation() -> None:
    shown = operation_view(OPERATION, ENDED)
    assert shown.status == "lost"
    assert shown.explanation is not None
    assert "ended before Graph reported" in shown.explanation.reason


@pytest.mark.parametrize("status", ["notStarted", "running", "completed", "newWord"])
def test_an_operation_without_a_failure_has_nothing_to_explain(status: str) -> None:
    assert operation_view(replace(OPERATION, status=status, code=200, subcode=8514), CALL).explanation is None


def test_a_failing_keep_alive_names_its_fault_owner() -> None:
    failing = RenewalFailure(NOON, 1, NOON + timedelta(minutes=1), "forbidden", 403, 7505)
    lease = call_view(replace(CALL, failing=failing), None, Timing(), NOON).lease
    assert lease is not None
    assert lease.failing is not None
    assert (lease.failing.explanation.fault_owner, lease.failing.explanation.retryable) == ("bot", False)
    assert "another tenant" in lease.failing.explanation.reason


def test_an_end_that_a_newer_version_explained_is_shown() -> None:
    assert ENDED.termination
    newer = replace(ENDED, termination=replace(ENDED.termination, fault_owner="somebodyNew", category="newCategory"))
    shown = call_view(newer, None, Timing(), NOON).termination
    assert shown is not None
    assert (shown.fault_owner, shown.category) == ("unknown", "newCategory")


def test_the_api_knows_every_owner_of_the_catalogue() -> None:
    assert set(catalogue().fault_owners) == FAULT_OWNERS
