"""Arbitrary bytes sent to the webhook: the status is never 5xx, and without Graph's token always 401."""

import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functions.harness import APP_ID, App
from tests.system.attacks.request_builders import RequestBuilder

BUILDER = RequestBuilder(APP_ID, victim="")
ACCEPTED_OR_REFUSED = {202, 204, 400, 403, 413}
GENUINE = BUILDER.body(BUILDER.item("{}", resourceData={"state": "terminated", "resultInfo": {"code": 1}}))

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
content = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8
)
members = st.fixed_dictionaries(
    {"resourceUrl": st.just("/communications/calls/{}") | st.text(max_size=40)},
    optional={
        "changeType": content,
        "resource": content,
        "resourceData": content | st.fixed_dictionaries({}, optional={"state": content, "resultInfo": content}),
    },
)
bodies = (
    st.binary(max_size=300)
    | content.map(lambda found: json.dumps(found).encode())
    | st.lists(members | content, max_size=4).map(lambda found: json.dumps({"value": found}).encode())
    | st.tuples(st.integers(0, len(GENUINE) - 1), st.binary(max_size=4)).map(
        lambda cut: GENUINE[: cut[0]] + cut[1] + GENUINE[cut[0] + len(cut[1]) :]
    )
)
visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)
tokens = st.builds("{}.{}.{}".format, visible, visible, visible)
headers = visible | (visible | tokens).map("Bearer {}".format)
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def authorization() -> str:
    """Return a header with a token that lives 5 minutes, and is accepted 5 minutes longer (leeway)."""
    return f"Bearer {BUILDER.token()}"


@quick
@given(body=bodies)
async def test_no_body_gets_5xx(trusting_app: App, authorization: str, body: bytes) -> None:
    sent = body.replace(b"{}", str(uuid.uuid4()).encode(), 1)
    response = await trusting_app.http.post(
        "/api/notifications", content=sent, headers={"Authorization": authorization}
    )
    assert response.status_code in ACCEPTED_OR_REFUSED


@quick
@given(value=headers)
async def test_no_header_but_graphs_gets_anything_but_401(trusting_app: App, value: str) -> None:
    response = await trusting_app.http.post("/api/notifications", content=GENUINE, headers={"Authorization": value})
    assert response.status_code == 401
