"""`make relay-kill` in short: a host that is killed again and again loses, changes and reorders nothing for the bot."""

import pytest

from soak.real.relay.bodies import FORMS
from soak.real.relay.kills import run
from soak.real.relay.validator import Proof

pytestmark = pytest.mark.timeout(180)

KILLS = 6


def test_a_host_that_is_killed_delivers_all_in_order_and_writes_no_token() -> None:
    findings, log = run(KILLS, seed=4, report=print, expire_claims=True)

    assert findings.violations == []
    assert findings.kills == sum(findings.moments.values()) == KILLS
    assert findings.under_way > 0
    assert findings.waiting > 0
    assert {sent.form for sent in findings.record.sent.values()} == set(FORMS)
    assert findings.proofs().keys() == {Proof.GRAPH, Proof.OWN}  # first attempts and retries
    assert "relay.delivery.failed" in log
