"""The store of calls, over Table Storage (on Azurite) and over the table in memory."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from azure.data.tables.aio import TableClient

from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Status, StoredResponse
from shared.domain.leases import Lease, Progress, RenewalFailure, WatchdogState, Watermark
from shared.domain.scopes import MAX_SCOPE_IDS, UNRESTRICTED, Scope
from shared.errors import InvalidRequest, StoreConflict
from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable
from shared.storage.store import SHARDS, CallStore, Change, Stored, shard_of, update
from shared.storage.table import MAX_TRANSACTION_ROWS
from tests.support.stores import (
    END,
    NOW,
    SECOND,
    TENANT,
    YieldingTable,
    create,
    ended,
    leases,
    listed,
    make_call,
    notified,
    one_by_one,
    read,
    some_ids,
    where,
)

ODD = "o'neill\"é😀&{}=+,;$"  # an id with what quoting, URLs and UTF-16 trip over


@pytest.fixture(params=["memory", "table"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[CallStore]:
    if request.param == "memory":
        yield CallStore(YieldingTable())
        return
    connection: str = request.getfixturevalue("azurite")
    client = TableClient.from_connection_string(connection, f"calls{uuid4().hex}", **CLIENT_OPTIONS)
    async with client:
        yield CallStore(AzureTable(client))


async def test_an_unknown_call_is_none_and_so_is_all_else(store: CallStore) -> None:
    assert await store.get("call") is None
    assert await store.get_operation("call", "operation") is None
    assert await store.list_events("call") == []
    assert await store.list_operations("call") == []
    assert await store.get_watermark(3) is None
    assert await leases(store, 3) == []
    assert await store.purge(3, NOW, 10) == 0


@pytest.mark.parametrize(
    "call_id", ["call", ODD, "0a1b2c3d-0000-4000-8000-1234567890ab"], ids=["plain", "odd characters", "GUID"]
)
async def test_a_call_is_read_as_it_was_written_before_and_after_its_end(store: CallStore, call_id: str) -> None:
    failing = RenewalFailure(NOW, 2, NOW + SECOND, "503 o'clock \U0001f600", 503, None)
    call = replace(make_call(call_id, one="1", quote="'\"|"), failing=failing, call_chain_id="", renewed_at=NOW)
    operation = Operation(ODD, call_id, "record", "running", NOW, recording_access_token="secret")
    await store.commit(Change(None, call, (notified("state", state="established"),), ((None, operation),)))
    stored = await read(store, call_id)
    assert stored.value == call
    assert await leases(store, shard_of(call_id)) == [call.lease]

    await store.commit(Change(stored, ended(call)))
    assert (await read(store, call_id)).value == ended(call)
    assert await leases(store, shard_of(call_id)) == []
    assert await where(store, call_id) == [Status.ENDED]
    assert await store.list_operations(call_id) == [operation]


async def test_what_is_long_is_kept_whole(store: CallStore) -> None:
    call = make_call(text="\x01" * 8_000)
    end = replace(END, message="\U0001f600" * 16_384 + "é" * 16_384)
    operation = Operation(
        "o", "call", "record", "failed", NOW, message="x" * 32_768, recording_access_token="t" * 9_999
    )
    await store.commit(Change(None, replace(ended(call), termination=end), (), ((None, operation),)))
    assert (await read(store)).value == replace(ended(call), termination=end)
    assert await store.list_operations("call") == [operation]


async def test_a_call_that_ended_before_it_was_known_is_a_tombstone(store: CallStore) -> None:
    await create(store, ended(make_call()))
    assert (await read(store)).value == ended(make_call())
    assert await where(store, "call") == [Status.ENDED]


async def test_how_a_call_became_known_begins_its_story(store: CallStore) -> None:
    await store.commit(Change(None, replace(make_call(), registered_at=NOW), (notified("state", NOW + SECOND),)))
    assert [event.kind for event in await store.list_events("call")] == ["firstSeen", "state"]
    assert (await store.list_events("call"))[0] == Event("firstSeen", NOW, {"by": "registration"})
    await create(store, make_call("other"))
    assert await store.list_events("other") == [Event("firstSeen", NOW, {"by": "notification"})]


async def test_a_write_over_a_newer_one_is_refused_and_changes_nothing(store: CallStore) -> None:
    await create(store, make_call())
    stale = await read(store)
    await store.commit(Change(stale, make_call(mine="1")))
    operation = Operation("o", "call", "record", "running", NOW)
    with pytest.raises(StoreConflict):
        await store.commit(Change(stale, make_call(theirs="1"), (notified("late"),), ((None, operation),)))
    assert (await read(store)).value == make_call(mine="1")
    assert [event.kind for event in await store.list_events("call")] == ["firstSeen"]
    assert await store.list_operations("call") == []


async def test_an_end_that_knew_not_the_last_write_is_refused(store: CallStore) -> None:
    await create(store, make_call())
    stale = await read(store)
    await store.commit(Change(stale, make_call(mine="1")))
    with pytest.raises(StoreConflict):
        await store.commit(Change(stale, ended(make_call())))
    assert (await read(store)).value == make_call(mine="1")


async def test_what_a_call_has_no_more_is_gone(store: CallStore) -> None:
    failing = RenewalFailure(NOW, 1, NOW, "x" * 40_000)
    await create(store, replace(make_call(long="y" * 40_000), failing=failing))
    await store.commit(Change(await read(store), make_call()))
    assert (await read(store)).value == make_call()


async def test_a_call_that_ended_since_it_was_read_is_not_written(store: CallStore) -> None:
    await create(store, make_call())
    stale = await read(store)
    await store.commit(Change(stale, ended(make_call())))
    for after in (make_call(mine="1"), ended(make_call(), NOW + SECOND)):
        with pytest.raises(StoreConflict):
            await store.commit(Change(stale, after))
    with pytest.raises(StoreConflict):
        await store.commit(Change(stale, make_call(), (notified("only an event"),)))
    assert (await read(store)).value == ended(make_call())


async def test_nothing_brings_an_ended_call_back(store: CallStore) -> None:
    await create(store, ended(make_call()))
    with pytest.raises(ValueError, match="nothing brings it back"):
        await store.commit(Change(await read(store), make_call()))
    registered = replace(ended(make_call()), registered_at=NOW)
    await store.commit(Change(await read(store), registered))
    with pytest.raises(ValueError, match="nothing brings it back"):
        await store.commit(Change(await read(store), replace(make_call(), tenant_id="another")))


async def test_a_tombstone_of_another_tenant_makes_room_for_the_call(store: CallStore) -> None:
    await create(store, ended(make_call()))
    stale = await read(store)
    await store.commit(Change(stale, replace(make_call(), tenant_id="another", registered_at=NOW)))
    assert (await read(store)).value == replace(make_call(), tenant_id="another", registered_at=NOW)
    assert await where(store, "call") == [Status.ACTIVE]
    with pytest.raises(StoreConflict):
        await store.commit(Change(stale, ended(make_call(), NOW + SECOND)))
    await store.commit(Change(await read(store), ended((await read(store)).value)))
    assert await where(store, "call") == [Status.ENDED]


async def test_of_twenty_who_create_a_call_one_does(store: CallStore) -> None:
    changes = [Change(None, make_call(who=str(number)), (notified("by", who=str(number)),)) for number in range(20)]
    stand = await one_by_one(store, *changes)
    assert stand.count(True) == 1
    winner = str(stand.index(True))
    assert (await read(store)).value.metadata == {"who": winner}
    assert {event.detail.get("who") for event in await store.list_events("call")} == {None, winner}


async def test_a_call_is_never_both_active_and_ended_however_its_creators_race(store: CallStore) -> None:
    ids = [f"race-{number}" for number in range(12)]
    changes = [Change(None, make(make_call(call_id))) for call_id in ids for make in (ended, replace)]
    stand = await one_by_one(store, *changes)
    assert [sum(stand[at : at + 2]) for at in range(0, len(stand), 2)] == [1] * len(ids)
    for call_id in ids:
        assert len(await where(store, call_id)) == 1


async def test_a_registration_and_an_end_at_once_leave_an_ended_registered_call(store: CallStore) -> None:
    def register(call: Call | None) -> tuple[Call, tuple[Event, ...]]:
        return replace(call or make_call(), registered_at=NOW), (notified("registered"),)

    def end(call: Call | None) -> tuple[Call, tuple[Event, ...]]:
        return ended(call or make_call()), (notified("ended"),)

    def for_one(call_id: str) -> list[asyncio.Task[Call | None]]:
        def named(call: Call | None) -> Call:
            return call or make_call(call_id)

        return [
            asyncio.create_task(update(store, call_id, lambda call: register(named(call)))),
            asyncio.create_task(update(store, call_id, lambda call: end(named(call)))),
        ]

    ids = [f"both-{number}" for number in range(8)]
    await asyncio.gather(*(task for call_id in ids for task in for_one(call_id)))
    for call_id in ids:
        call = (await read(store, call_id)).value
        assert (call.status, call.registered_at) == (Status.ENDED, NOW)
        assert {event.kind for event in await store.list_events(call_id)} == {"firstSeen", "registered", "ended"}


async def test_twenty_updates_at_once_lose_nothing(store: CallStore) -> None:
    def adding(number: int) -> asyncio.Task[Call | None]:
        def decide(call: Call | None) -> tuple[Call, tuple[Event, ...]]:
            call = call or make_call()
            added = {**call.metadata, str(number): "here"}
            return replace(call, metadata=added), (notified("added", number=str(number)),)

        return asyncio.create_task(update(store, "call", decide))

    await asyncio.gather(*map(adding, range(20)))
    assert set((await read(store)).value.metadata) == set(map(str, range(20)))
    assert len(await store.list_events("call")) == 21


async def test_an_event_told_twice_is_one_line_and_keeps_its_first_time(store: CallStore) -> None:
    await store.commit(Change(None, make_call(), (notified("state", NOW, state="ringing"),)))
    again = notified("state", NOW + SECOND, state="ringing")
    other = notified("state", NOW + SECOND, state="established")
    await store.commit(Change(await read(store), make_call(), (again, other, other)))
    assert (await store.list_events("call"))[1:] == [notified("state", NOW, state="ringing"), other]


async def test_news_beside_what_was_told_before_is_written_and_the_first_time_stays(store: CallStore) -> None:
    await store.commit(Change(None, make_call(), (notified("state", NOW, state="ringing"),)))
    again = notified("state", NOW + SECOND, state="ringing")
    news = notified("state", NOW + SECOND, state="terminated")
    late = await read(store)
    await store.commit(Change(late, ended(make_call()), (again, news)))
    assert (await read(store)).value == ended(make_call())
    assert (await store.list_events("call"))[1:] == [notified("state", NOW, state="ringing"), news]
    with pytest.raises(StoreConflict):
        await store.commit(Change(late, ended(make_call()), (again, notified("other"))))
    assert len(await store.list_events("call")) == 3


async def test_a_writer_that_lost_the_race_to_the_same_state_still_adds_its_event(store: CallStore) -> None:
    await create(store, make_call())
    stale = await read(store)
    await store.commit(Change(stale, ended(make_call()), (notified("winner"),)))
    with pytest.raises(StoreConflict):
        await store.commit(Change(stale, ended(make_call()), (notified("loser"),)))
    await update(store, "call", lambda call: (call or make_call(), (notified("loser"),)))
    assert {event.kind for event in await store.list_events("call")} == {"firstSeen", "winner", "loser"}


async def test_what_we_did_twice_is_two_lines(store: CallStore) -> None:
    await store.commit(Change(None, make_call(), (Event("hangup", NOW),)))
    await store.commit(Change(await read(store), make_call(), (Event("hangup", NOW + SECOND),)))
    assert [event.at for event in await store.list_events("call") if event.kind == "hangup"] == [NOW, NOW + SECOND]


async def test_a_change_with_nothing_new_writes_nothing(store: CallStore) -> None:
    operation = Operation("o", "call", "record", "running", NOW)
    await store.commit(Change(None, make_call(), (notified("state"),), ((None, operation),)))
    before = await read(store)
    stored = await store.get_operation("call", "o")
    await store.commit(Change(before, before.value, (notified("state", NOW + SECOND),), ((stored, operation),)))
    assert await store.get("call") == before
    assert await store.get_operation("call", "o") == stored


async def test_an_operation_is_replaced_only_as_it_was_read(store: CallStore) -> None:
    running = Operation("o", "call", "record", "running", NOW)
    await store.commit(Change(None, make_call(), (), ((None, running),)))
    stale = await store.get_operation("call", "o")
    completed = replace(running, status="completed", finished_at=NOW, code=10**12, subcode=0)
    await store.commit(Change(await read(store), make_call(), (), ((stale, completed),)))
    for before in (stale, None):
        with pytest.raises(StoreConflict):
            await store.commit(Change(await read(store), make_call(), (), ((before, replace(running, status="lost")),)))
    assert await store.list_operations("call") == [completed]


async def test_a_change_is_at_most_one_transaction_of_100_rows(store: CallStore) -> None:
    most = MAX_TRANSACTION_ROWS - 2  # beside the row of the call and the event `firstSeen`
    events = tuple(notified("state", number=str(number)) for number in range(most + 1))
    with pytest.raises(ValueError, match=f"{MAX_TRANSACTION_ROWS + 1} rows"):
        await store.commit(Change(None, make_call(), events))
    assert await store.get("call") is None
    await store.commit(Change(None, make_call(), events[:most]))
    assert len(await store.list_events("call")) == most + 1


async def test_an_operation_named_twice_is_a_mistake(store: CallStore) -> None:
    pair = (None, Operation("o", "call", "record", "running", NOW))
    with pytest.raises(ValueError, match="twice"):
        await store.commit(Change(None, make_call(), (), (pair, pair)))


async def test_the_story_and_the_operations_are_in_the_order_of_time(store: CallStore) -> None:
    kinds = [Event(f"kind-{number}", NOW + (7 * number % 10) * SECOND) for number in range(10)]
    pairs = [(None, Operation(f"o-{n}", "call", "record", "running", NOW + (3 * n % 10) * SECOND)) for n in range(10)]
    await store.commit(Change(None, make_call(at=NOW - SECOND), tuple(kinds), tuple(pairs)))
    events, operations = await store.list_events("call"), await store.list_operations("call")
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert [operation.known_at for operation in operations] == [NOW + n * SECOND for n in range(10)]


async def test_the_rows_of_a_call_are_not_those_of_one_whose_id_begins_alike(store: CallStore) -> None:
    ids = ["call", *some_ids(shard_of("call"), 3), "call}35", "call~5"]
    assert len({shard_of(call_id) for call_id in ids}) == 1
    for call_id in ids:
        operation = Operation("o", call_id, "record", "running", NOW)
        await store.commit(Change(None, make_call(call_id), (notified(call_id),), ((None, operation),)))
    for call_id in ids:
        assert {event.kind for event in await store.list_events(call_id)} == {"firstSeen", call_id}
        assert [operation.call_id for operation in await store.list_operations(call_id)] == [call_id]


async def test_a_shard_gives_its_own_active_calls_only(store: CallStore) -> None:
    calls = [make_call(f"call-{number}") for number in range(40)]
    await create(store, *calls, ended(make_call("over")))
    for shard in range(SHARDS):
        found = await leases(store, shard)
        assert {lease.call_id for lease in found} == {call.id for call in calls if shard_of(call.id) == shard}


async def test_calls_that_end_during_a_scan_do_not_disturb_it(store: CallStore) -> None:
    ids = some_ids(5, 6)
    await create(store, *map(make_call, ids))
    seen = []
    async for lease in store.scan(5):
        assert isinstance(lease, Lease)
        seen.append(lease.call_id)
        for call_id in {lease.call_id, ids[-1]}:
            before = await read(store, call_id)
            await store.commit(Change(before, ended(before.value)))
    assert set(seen) | {ids[-1]} == set(ids)
    assert len(seen) == len(set(seen))


async def test_300_calls_of_one_shard_are_scanned_and_listed(store: CallStore) -> None:
    ids = some_ids(5, 300)
    await create(store, *map(make_call, ids))
    assert [lease.call_id for lease in await leases(store, 5)] == ids
    assert [[call.id for call in page] for page in await listed(store, Status.ACTIVE, 200)] == [ids[:200], ids[200:]]


@pytest.mark.parametrize("limit", [1, 7, 60, 61], ids=lambda limit: f"{limit} of 60 a page")
async def test_active_calls_of_all_shards_are_listed_by_id_whatever_the_page(store: CallStore, limit: int) -> None:
    ids = [f"call-{number:02}" for number in range(55)] + [ODD, "\uff5e-after", "\U0001f600-astral", "é", "Z"]
    await create(store, *map(make_call, ids))
    pages = await listed(store, Status.ACTIVE, limit)
    expected = sorted(ids, key=lambda call_id: call_id.encode("utf-16-be"))
    assert [call.id for page in pages for call in page] == expected
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert pages[-1]


@pytest.mark.parametrize("limit", [3, 100], ids=lambda limit: f"{limit} of 40 a page")
async def test_ended_calls_are_listed_newest_first_and_ties_by_id(store: CallStore, limit: int) -> None:
    ends = {f"call-{number:02}": NOW + (number // 4 % 5) * SECOND / 1_000_000 for number in range(40)}
    await create(store, *(ended(make_call(call_id), at) for call_id, at in ends.items()))
    found = [call for page in await listed(store, Status.ENDED, limit) for call in page]
    assert [call.id for call in found] == sorted(ends, key=lambda call_id: (NOW - ends[call_id], call_id))
    assert found[0] == ended(make_call(found[0].id), ends[found[0].id])


async def test_a_change_of_an_ended_call_shows_in_the_list_once_even_if_its_end_moves(store: CallStore) -> None:
    await create(store, ended(make_call()), ended(make_call("other"), NOW + SECOND))
    richer = ended(make_call(more="1"))
    await store.commit(Change(await read(store), richer))
    assert await listed(store, Status.ENDED) == [[ended(make_call("other"), NOW + SECOND), richer]]
    moved = ended(make_call(more="1"), NOW + 2 * SECOND)
    await store.commit(Change(await read(store), moved))
    assert await listed(store, Status.ENDED) == [[moved, ended(make_call("other"), NOW + SECOND)]]


def of(tenant: str) -> Scope:
    return Scope(frozenset({tenant}))


async def test_a_list_can_be_of_one_tenant(store: CallStore) -> None:
    ours, theirs = "o'urs = 1 or 2", "theirs"
    await create(store, *(make_call(f"call-{n:02}", tenant=ours if n % 5 == 0 else theirs) for n in range(40)))
    await create(store, ended(make_call("over", tenant=ours)))
    pages = await listed(store, Status.ACTIVE, 3, scope=of(ours))
    assert [[call.id for call in page] for page in pages] == [
        ["call-00", "call-05", "call-10"],
        ["call-15", "call-20", "call-25"],
        ["call-30", "call-35"],
    ]
    assert [call.id for page in await listed(store, Status.ENDED, scope=of(ours)) for call in page] == ["over"]
    assert await listed(store, Status.ENDED, scope=of("nobody")) == [[]]


async def test_calls_of_several_tenants_are_listed_together(store: CallStore) -> None:
    tenants = [str(uuid4()) for _ in range(MAX_SCOPE_IDS)]
    await create(store, *(make_call(f"call-{place}", tenant=tenant) for place, tenant in enumerate(tenants)))
    await create(store, make_call("another", tenant=str(uuid4())))
    scope = Scope(frozenset(tenants))
    page = await store.list_calls(Status.ACTIVE, scope, limit=7)
    following = await store.list_calls(Status.ACTIVE, scope, limit=7, continuation=page.continuation)
    found = [call.id for call in (*page.records, *following.records)]
    assert found == [f"call-{place}" for place in range(MAX_SCOPE_IDS)]
    with pytest.raises(InvalidRequest):
        await store.list_calls(Status.ACTIVE, Scope(frozenset(tenants[:1])), continuation=page.continuation)


NAMELESS = None  # what was written down before calls had an app


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("apps", [("ours",), ("ours", "theirs"), ("ours", NAMELESS), ("nobody's",)], ids=str)
async def test_a_list_can_be_of_some_apps_and_of_calls_without_one(
    store: CallStore, status: Status, apps: tuple[str | None, ...]
) -> None:
    owners = ["ours", "theirs", NAMELESS, "another's"]
    calls = [replace(make_call(f"call-{n:02}"), app_id=owners[n % len(owners)]) for n in range(4 * 16)]
    elsewhere = replace(make_call("elsewhere", tenant="theirs"), app_id="ours")
    every = [call if status is Status.ACTIVE else ended(call) for call in (*calls, elsewhere)]
    await create(store, *every)
    for scope in (Scope(apps=frozenset(apps)), Scope(frozenset({TENANT}), frozenset(apps))):
        pages = await listed(store, status, 7, scope)
        expected = [call for call in every if scope.contains(call)]
        assert [call.id for page in pages for call in page] == sorted(call.id for call in expected)
        assert all(len(page) == 7 for page in pages[:-1])


async def test_a_list_of_as_many_tenants_and_apps_as_a_caller_may_have_is_not_too_much_to_ask(store: CallStore) -> None:
    some = [str(uuid4()) for _ in range(MAX_SCOPE_IDS)]
    await create(store, replace(make_call(tenant=some[0]), app_id=some[5]))
    for scope in (Scope(frozenset(some[:5]), frozenset(some[5:])), Scope(apps=frozenset(some))):
        assert len((await store.list_calls(Status.ACTIVE, scope)).records) == 1


async def test_a_continuation_is_of_the_list_of_its_apps(store: CallStore) -> None:
    await create(store, *(replace(make_call(call_id), app_id="ours") for call_id in "abc"))
    ours = Scope(apps=frozenset({"ours"}))
    page = await store.list_calls(Status.ACTIVE, ours, limit=2)
    following = await store.list_calls(Status.ACTIVE, ours, continuation=page.continuation)
    assert [call.id for call in following.records] == ["c"]
    for other in (UNRESTRICTED, Scope(apps=frozenset({"theirs"})), Scope(frozenset({"ours"}), None)):
        with pytest.raises(InvalidRequest):
            await store.list_calls(Status.ACTIVE, other, continuation=page.continuation)


async def test_a_key_is_taken_by_one_and_its_answer_kept_until_it_is_given_back(store: CallStore) -> None:
    await create(store, make_call())
    assert await store.get_idempotency_record("call", "name") is None
    claim = IdempotencyRecord("fingerprint", NOW, claim_id="ours")
    await store.claim_idempotency_key("call", "name", claim, None)
    stale = await store.get_idempotency_record("call", "name")
    assert stale is not None
    assert stale.value == claim
    with pytest.raises(StoreConflict):
        await store.claim_idempotency_key("call", "name", claim, None)

    done = replace(claim, response=StoredResponse(202, "é" * 40_000, "/place"), outcome_unknown=True)
    await store.settle_idempotency_key("call", "name", stale, done)
    kept = await store.get_idempotency_record("call", "name")
    assert kept is not None
    assert kept.value == done
    with pytest.raises(StoreConflict):
        await store.claim_idempotency_key("call", "name", claim, stale)
    await store.claim_idempotency_key("call", "name", replace(claim, claim_id="another's"), kept)
    taken_over = await store.get_idempotency_record("call", "name")
    assert taken_over is not None
    assert taken_over.value.claim_id == "another's"

    for request in (done, None):  # whoever claimed it before writes nothing over it, and gives nothing back
        with pytest.raises(StoreConflict):
            await store.settle_idempotency_key("call", "name", kept, request)
    await store.settle_idempotency_key("call", "name", taken_over, None)
    assert await store.get_idempotency_record("call", "name") is None
    with pytest.raises(StoreConflict):
        await store.settle_idempotency_key("call", "name", taken_over, done)


async def test_keys_go_with_their_call(store: CallStore) -> None:
    await create(store, ended(make_call()), make_call("call-2"))
    for call_id in ("call", "call-2"):
        await store.claim_idempotency_key(call_id, "name", IdempotencyRecord("fingerprint", NOW), None)
    assert await store.purge(shard_of("call"), NOW + SECOND, 10) == 1
    assert await store.get_idempotency_record("call", "name") is None
    assert await store.get_idempotency_record("call-2", "name") is not None


async def test_the_secret_is_made_once_for_all(store: CallStore) -> None:
    first, *others = await asyncio.gather(*(store.get_continuation_key() for _ in range(5)))
    assert len(first) == 32
    assert {first, *others, await store.get_continuation_key()} == {first}


async def test_a_full_last_page_has_no_continuation(store: CallStore) -> None:
    await create(store, make_call("a"), make_call("b"))
    assert (await store.list_calls(Status.ACTIVE, limit=2)).continuation is None


async def test_a_call_that_ends_between_two_pages_hides_no_other(store: CallStore) -> None:
    await create(store, *map(make_call, "abcd"))
    first = await store.list_calls(Status.ACTIVE, limit=2)
    await store.commit(Change(await read(store, "b"), ended(make_call("b"))))
    second = await store.list_calls(Status.ACTIVE, limit=2, continuation=first.continuation)
    assert [call.id for call in second.records] == ["c", "d"]


def encoded(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "continuation",
    [
        pytest.param("", id="empty"),
        pytest.param("nonsense", id="no JSON"),
        pytest.param("é", id="not ASCII"),
        pytest.param("!!!!", id="no base64"),
        pytest.param(encoded([1, "active", None, "active|call"]), id="older version"),
        pytest.param(encoded([2, "ended", [None, None], "active|call"]), id="other status"),
        pytest.param(encoded([2, "active", [["tenant"], None], "active|call"]), id="other scope"),
        pytest.param(encoded([2, "active", [None, None], "event|call"]), id="key of another list"),
        pytest.param(encoded([2, "active", [None, None], 7]), id="key that is no text"),
        pytest.param(encoded({"version": 1}), id="no list"),
        pytest.param("W" * 40_000, id="very long"),
    ],
)
async def test_a_continuation_that_is_not_of_this_list_is_refused(store: CallStore, continuation: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await store.list_calls(Status.ACTIVE, continuation=continuation)
    assert [name for name, _ in refused.value.errors] == ["continuation"]


@pytest.mark.parametrize(
    "etag",
    [None, "", "W/\"datetime'2001-02-03T04%3A05%3A06.7000000Z'\""],
    ids=["no ETag", "empty ETag", "stale ETag"],
)
async def test_the_watermark_of_the_sweep_that_began_last_stands_whichever_was_written_first(
    store: CallStore, etag: str | None
) -> None:
    for second, standing in ((0, 0), (2, 2), (1, 2), (2, 2)):
        await store.put_watermark(4, Watermark(NOW + second * SECOND, NOW + 3 * SECOND, 1, 2, 3), etag)
        assert await store.get_watermark(4) == Watermark(NOW + standing * SECOND, NOW + 3 * SECOND, 1, 2, 3)
    assert await store.get_watermark(5) is None


async def test_a_scan_tells_progress_and_watermark_before_the_leases(store: CallStore) -> None:
    watermark = Watermark(NOW, NOW + SECOND, 1, 2, 3, frozenset({"a"}))
    progress = Progress(NOW + SECOND, NOW, (NOW, NOW - SECOND, "call-1"), 1, 2, 3, frozenset({"a", "b"}))
    call = make_call(some_ids(4, 1)[0])
    await create(store, call)
    await store.put_progress(4, progress)
    await store.put_watermark(4, watermark)

    first, second, third = [record async for record in store.scan(4)]

    assert (first, third) == (progress, call.lease)
    assert isinstance(second, Stored)
    assert second.value == watermark
    newer = replace(watermark, sweep_started_at=NOW + SECOND)
    await store.put_watermark(4, newer, second.etag)
    assert await store.get_watermark(4) == newer


async def test_the_last_progress_of_a_shard_stands(store: CallStore) -> None:
    for after in (None, (NOW + SECOND, NOW, "call-7")):
        progress = Progress(NOW, None, after, 1, 2, 3, frozenset({"a", "b"}))
        await store.put_progress(4, progress)
        assert [record async for record in store.scan(4)] == [progress]
    assert [record async for record in store.scan(5)] == []
    assert await store.get_watermark(4) is None


async def test_the_last_switch_stands(store: CallStore) -> None:
    assert await store.get_watchdog_state() is None
    for second, began in enumerate((NOW, None)):
        switch = WatchdogState(NOW + second * SECOND, began)
        await store.put_watchdog_state(switch)
        assert await store.get_watchdog_state() == switch


async def test_purging_deletes_all_of_a_call_and_it_can_come_again(store: CallStore) -> None:
    operations = tuple((None, Operation(f"o-{number}", "call", "record", "completed", NOW)) for number in range(60))
    await store.commit(Change(None, make_call(), tuple(notified("state", n=str(n)) for n in range(30)), operations))
    await store.commit(
        Change(await read(store), ended(make_call()), tuple(notified("more", n=str(n)) for n in range(60)))
    )
    assert await store.purge(shard_of("call"), NOW + SECOND, 10) == 1
    assert await store.get("call") is None
    assert await store.list_events("call") == []
    assert await store.list_operations("call") == []
    assert await where(store, "call") == []
    await create(store, make_call())
    assert await where(store, "call") == [Status.ACTIVE]


async def test_purging_goes_by_the_end_to_the_microsecond_and_spares_active_calls(store: CallStore) -> None:
    at, just_before, old = some_ids(2, 3)
    alive = make_call("alive", at=NOW - 9_999 * SECOND)
    await create(store, ended(make_call(at)), ended(make_call(just_before), NOW - SECOND / 1_000_000), alive)
    await create(store, ended(make_call(old, at=NOW - 99 * SECOND), NOW - 99 * SECOND))
    assert sum([await store.purge(shard, NOW, 10) for shard in range(SHARDS)]) == 2
    assert await where(store, at) == [Status.ENDED]
    assert await where(store, "alive") == [Status.ACTIVE]
    assert await store.list_events("alive")
    assert await where(store, old) == await where(store, just_before) == []


async def test_purging_is_bounded_and_takes_the_oldest_first(store: CallStore) -> None:
    ids = some_ids(9, 7)
    await create(store, *(ended(make_call(call_id), NOW + n * SECOND) for n, call_id in enumerate(ids)))
    assert await store.purge(9, NOW + 99 * SECOND, 3) == 3
    assert [call.id for page in await listed(store, Status.ENDED) for call in page] == ids[:2:-1]
    assert await store.purge(9, NOW + 5 * SECOND, 100) == 2
    assert await store.purge(9, NOW + 99 * SECOND, 100) == 2
    assert await store.purge(9, NOW + 99 * SECOND, 100) == 0
