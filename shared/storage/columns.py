"""The columns of Table Storage that a record is written as. `entities` reads them.

A scalar is a column, named as in the API; a nested part is JSON in a column of its own.
"""

from dataclasses import replace

from pydantic import TypeAdapter

from shared.domain.calls import Call, Event, Hangup, IdempotencyRecord, Operation, StoredResponse, Termination
from shared.domain.leases import Lease, Progress, RenewalFailure, WatchdogState, Watermark
from shared.storage import column_values
from shared.storage.column_values import Cell
from shared.storage.rows import Record

MAX_REASON_LENGTH = 2_000  # characters; so that `failing` fits into one column, which sweeps read

LEASE_ADAPTER = TypeAdapter(Lease)
RENEWAL_FAILURE_ADAPTER = TypeAdapter(RenewalFailure)
HANGUP_ADAPTER = TypeAdapter(Hangup)
TERMINATION_ADAPTER = TypeAdapter(Termination)
RESPONSE_ADAPTER = TypeAdapter(StoredResponse)


def columns_of(record: Record) -> dict[str, Cell]:
    """The columns of a record, without its keys; None is no column."""
    match record:
        case Call():
            return _call_cells(record)
        case Operation():
            return _operation_cells(record)
        case Event(kind=kind, at=at, from_notification=from_notification):
            return {
                "kind": kind,
                "at": at,
                "detail": column_values.to_json(dict(record.detail)),
                "told": from_notification,
            }
        case Watermark():
            return _watermark_cells(record)
        case Progress():
            return _progress_cells(record)
        case _:
            return _small_cells(record)


def _small_cells(record: WatchdogState | bytes | IdempotencyRecord) -> dict[str, Cell]:
    match record:
        case WatchdogState(due=due, sweep_began_at=began):
            return {"due": due, "sweepBeganAt": began}
        case bytes():
            return {"key": record.hex()}
        case IdempotencyRecord():
            return {
                "fingerprint": record.fingerprint,
                "beganAt": record.began_at,
                "answered": column_values.dump_json(RESPONSE_ADAPTER, record.response),
                "outcomeLost": record.outcome_unknown,
                "claim": record.claim_id,
            }


def _call_cells(call: Call) -> dict[str, Cell]:
    failing = call.failing and replace(call.failing, reason=call.failing.reason[:MAX_REASON_LENGTH])
    lease = replace(call.lease, failing=failing)
    return {
        "lease": None if call.ended_at else LEASE_ADAPTER.dump_json(lease, exclude_defaults=True).decode(),
        "tenantId": call.tenant_id,
        "appId": call.app_id,
        "state": call.state,
        "knownAt": call.known_at,
        "startedAt": call.started_at,
        "registeredAt": call.registered_at,
        "everEstablished": call.ever_established,
        "direction": call.direction,
        "callChainId": call.call_chain_id,
        "metadata": column_values.to_json(dict(call.metadata)) if call.metadata else None,
        "renewedAt": call.renewed_at,
        "failing": column_values.dump_json(RENEWAL_FAILURE_ADAPTER, failing),
        "hangup": column_values.dump_json(HANGUP_ADAPTER, call.hangup),
        "endedAt": call.ended_at,
        "termination": column_values.dump_json(TERMINATION_ADAPTER, call.termination),
    }


def _operation_cells(operation: Operation) -> dict[str, Cell]:
    return {
        "kind": operation.kind,
        "status": operation.status,
        "knownAt": operation.known_at,
        "clientContext": operation.client_context,
        "requestedAt": operation.requested_at,
        "requestedBy": operation.requested_by,
        "finishedAt": operation.finished_at,
        "code": None if operation.code is None else str(operation.code),  # nobody bounds these numbers
        "subcode": None if operation.subcode is None else str(operation.subcode),
        "rawCode": operation.raw_code,
        "rawSubcode": operation.raw_subcode,
        "message": operation.message,
        "completionReason": operation.completion_reason,
        "recordingLocation": operation.recording_location,
        "recordingAccessToken": operation.recording_access_token,
    }


def _watermark_cells(watermark: Watermark) -> dict[str, Cell]:
    return {
        "sweepStartedAt": watermark.sweep_started_at,
        "finishedAt": watermark.finished_at,
        "renewed": watermark.renewed,
        "ended": watermark.ended,
        "failing": watermark.failing,
        "unwritten": column_values.to_json(sorted(watermark.unwritten)) if watermark.unwritten else None,
    }


def _progress_cells(progress: Progress) -> dict[str, Cell]:
    deadline, began, last_id = progress.cursor or (None, None, None)
    return {
        "startedAt": progress.started_at,
        "under": progress.base_watermark_at,
        "afterDeadline": deadline,
        "afterBegan": began,
        "afterId": last_id,
        "renewed": progress.renewed,
        "ended": progress.ended,
        "failing": progress.failing,
        "unwritten": column_values.to_json(sorted(progress.unwritten)) if progress.unwritten else None,
    }
