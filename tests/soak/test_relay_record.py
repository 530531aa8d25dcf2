"""The checks of `make relay-kill` find each kind of violation: a lost, changed or overtaking notification, a token."""

import gzip
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import pytest

from simulator.signing import SigningKey
from soak.real.relay.leaks import content_of_row, files, find_tokens
from soak.real.relay.record import Arrival, Record, Sent
from soak.real.relay.validator import Proof, Verdict

BUDGET = timedelta(seconds=0.3)
MINUTE = timedelta(minutes=1)
TOKEN = SigningKey("graph").sign({"aud": "3f1d9a52", "tid": "7b9c2f"})


def sent(number: int, *, sends: int = 1, is_acknowledged: bool = True) -> Sent:
    return Sent("call", number, f"body {number}", "tenant", "compact", TOKEN, sends, False, is_acknowledged)


def arrival(
    number: int, arrived: int, accepted: int | None, verdict: Verdict | None = None, attempt: str = ""
) -> Arrival:
    verdict = verdict or Verdict(Proof.GRAPH, MINUTE)
    return Arrival(f"id {number}{attempt}", f"body {number}", verdict, arrived, accepted)


def record(*parts: Sent | Arrival) -> Record:
    found = Record()
    for part in parts:
        if isinstance(part, Sent):
            found.sent[part.digest] = part
        else:
            found.arrivals.append(part)
    return found


def test_a_run_without_a_violation_has_none() -> None:
    late = Verdict(Proof.OWN, MINUTE)
    good = record(
        sent(0),
        sent(1, sends=2),
        sent(2, is_acknowledged=False),
        arrival(0, 0, None),
        arrival(0, 1, 2, late),
        arrival(1, 3, 4),
        arrival(1, 5, 6, late, " again"),
    )
    assert good.violations(BUDGET) == []


@pytest.mark.parametrize(
    ("parts", "beginning"),
    [
        pytest.param([sent(0)], "lost: ", id="acknowledged and not received"),
        pytest.param([sent(0), arrival(0, 0, None)], "lost: ", id="received, and answered with 5xx"),
        pytest.param([arrival(0, 0, 1)], "changed: ", id="a body that was not sent"),
        pytest.param(
            [sent(0), arrival(0, 0, 1, Verdict(Proof.NONE, fault="ExpiredSignatureError"))], "refused: ", id="expired"
        ),
        pytest.param(
            [sent(0), arrival(0, 0, 1, Verdict(Proof.GRAPH, timedelta(seconds=29)))],  # 29 < 30 - 0.3
            "late bearer: ",
            id="29 s before the end of Graph's token",
        ),
        pytest.param([sent(0), arrival(0, 0, 1), arrival(0, 2, 3, attempt="x")], "id: ", id="a retry with another id"),
        pytest.param(
            [sent(0), sent(1), arrival(0, 0, 1), Arrival("id 0", "body 1", Verdict(Proof.OWN, MINUTE), 2, 3)],
            "id: ",
            id="one id for two bodies",
        ),
        pytest.param(
            [sent(0), sent(1), arrival(0, 0, 3), arrival(1, 1, 2)], "order: ", id="before the one before is accepted"
        ),
        pytest.param([sent(0), sent(1), arrival(1, 0, 1), arrival(0, 2, 3)], "order: ", id="overtaken"),
    ],
)
def test_each_violation_is_found(parts: list[Sent | Arrival], beginning: str) -> None:
    (violation,) = record(*parts).violations(BUDGET)
    assert violation.startswith(beginning)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TOKEN.encode(), id="whole"),
        pytest.param(TOKEN.rpartition(".")[2].encode(), id="its signature"),
        *(
            pytest.param(b64encode(b"x" * offset + TOKEN.encode()), id=f"in base64, {offset} bytes behind")
            for offset in range(3)
        ),
        pytest.param(TOKEN[: TOKEN.index(".") + 25].encode(), id="its beginning"),
    ],
)
def test_each_form_of_a_token_is_found(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"before" + content + b"after")
    assert find_tokens(files(tmp_path), [TOKEN]) == ["leak: file a file has a token"]


def test_a_message_of_a_queue_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b64encode(b'{"kind":"deliver","call_id":"57dab8b1-894c-409a-b240-bd8beae78896"}'))
    assert find_tokens(files(tmp_path), [TOKEN]) == []


def test_a_body_is_unpacked_before_it_is_searched() -> None:
    packed = gzip.compress(TOKEN.encode())
    row = {"RowKey": "delivery|call|1", "body": packed[:20], "body2": packed[20:]}
    assert find_tokens([("row", content_of_row(row))], [TOKEN]) == ["leak: row has a token"]
