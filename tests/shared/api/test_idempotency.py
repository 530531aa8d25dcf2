"""Requests with an Idempotency-Key, in virtual time on the memory store."""

import asyncio
from datetime import timedelta

import pytest

from shared.api.idempotency import (
    IMPLIED_KEY_TTL,
    IN_PROGRESS_TIMEOUT,
    MAX_KEY_LENGTH,
    RECORD_TTL,
    IdempotencyHandler,
    IdempotencyKey,
    implied_key,
    parse_key,
)
from shared.domain.calls import Call, Event, IdempotencyRecord, StoredResponse
from shared.errors import (
    CallKeeperError,
    GraphForbidden,
    GraphNotReached,
    GraphThrottled,
    IdempotencyKeyReused,
    InvalidRequest,
    OutcomeUnknown,
    RecordingNotPersisted,
    RequestInProgress,
    StoreUnavailable,
    TokenUnavailable,
)
from shared.storage.memory_table import MemoryTable
from shared.storage.store import CallStore, Change, Stored
from tests.support.virtual import VirtualClock

SECOND = timedelta(seconds=1)


def key(header: str = '"one"', caller: str = "bot", request: str = "record {}") -> IdempotencyKey:
    found = parse_key(header, caller, request)
    assert found is not None
    return found


WITHOUT = implied_key("bot", "record {}")


class Work:
    """The work of a request: it adds its event, counts its executions, and fails with the given errors."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.done = 0
        self.world: World | None = None

    async def begin(self) -> None:
        self.done += 1
        if self.world:
            await self.world.write("recordRequested")

    async def __call__(self) -> StoredResponse:
        await self.begin()
        if self.failures:
            raise self.failures.pop(0)
        return StoredResponse(202, f'{{"time": {self.done}}}', "/somewhere")


class World:
    def __init__(self, store: CallStore | None = None) -> None:
        self.clock, self.store = VirtualClock(), store or CallStore(MemoryTable())

    async def write(self, kind: str) -> None:
        """Add an event to the call's event log."""
        now, before = self.clock.now(), await self.store.get("call")
        call = before.value if before else Call("call", "tenant", "established", now, now)
        await self.store.commit(Change(before, call, (Event(kind, now),)))

    async def ask(self, work: Work, a_key: IdempotencyKey, *, repeatable: bool = False) -> StoredResponse:
        work.world = self
        once = IdempotencyHandler(self.store, self.clock, "recordRequested", repeatable)
        return await once.handle("call", a_key, work)


class SlowWork(Work):
    """Work that has begun, and goes on only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> StoredResponse:
        self.begun.set()
        await self.may_go_on.wait()
        return await super().__call__()


@pytest.fixture
def world() -> World:
    return World()


async def test_the_same_request_gets_the_same_answer_and_is_done_once(world: World) -> None:
    work = Work()
    first = await world.ask(work, key())
    await world.clock.advance(RECORD_TTL - SECOND)
    assert await world.ask(work, key()) == first
    assert work.done == 1


async def test_another_request_with_the_same_key_is_refused_and_not_done(world: World) -> None:
    work = Work()
    await world.ask(work, key())
    for other in ('record {"playBeep": false}', "hangup"):
        with pytest.raises(IdempotencyKeyReused):
            await world.ask(work, key(request=other))
    assert work.done == 1


async def test_other_keys_and_other_callers_are_independent(world: World) -> None:
    work = Work()
    for other in (key(), key('"two"'), key(caller="another")):
        await world.ask(work, other)
    assert work.done == 3


async def test_after_a_day_the_key_is_free_for_anything(world: World) -> None:
    work = Work()
    await world.ask(work, key())
    await world.clock.advance(RECORD_TTL)
    await world.ask(work, key(request="hangup"))
    assert work.done == 2


@pytest.mark.parametrize("a_key", [pytest.param(key(), id="key"), pytest.param(WITHOUT, id="no key")])
async def test_a_request_in_progress_is_not_done_a_second_time(world: World, a_key: IdempotencyKey) -> None:
    work = SlowWork()
    first = asyncio.create_task(world.ask(work, a_key))
    await work.begun.wait()
    with pytest.raises(RequestInProgress):
        await world.ask(work, a_key)
    work.may_go_on.set()
    await first
    assert work.done == 1


async def test_another_request_with_the_key_of_one_in_progress_is_refused(world: World) -> None:
    work = SlowWork()
    first = asyncio.create_task(world.ask(work, key()))
    await work.begun.wait()
    with pytest.raises(IdempotencyKeyReused):
        await world.ask(work, key(request="hangup"))
    work.may_go_on.set()
    assert await first == await world.ask(work, key())
    assert work.done == 1


async def test_of_many_requests_at_the_same_time_one_is_done(world: World) -> None:
    class GivingWay(CallStore):
        async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
            found = await super().get_idempotency_record(call_id, name)
            await asyncio.sleep(0)
            return found

    world, work = World(GivingWay(MemoryTable())), Work()
    requests = 9
    answers = await asyncio.gather(*(world.ask(work, key()) for _ in range(requests)), return_exceptions=True)
    assert work.done == 1
    assert sum(isinstance(answer, StoredResponse) for answer in answers) == 1
    assert sum(isinstance(answer, RequestInProgress) for answer in answers) == requests - 1


@pytest.mark.parametrize(
    "error",
    [
        TokenUnavailable("x"),
        StoreUnavailable("x"),
        GraphForbidden("x", status=403),
        GraphThrottled("x", status=429),
        GraphNotReached("x", status=302),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_that_certainly_changed_nothing_frees_the_key(world: World, error: CallKeeperError) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        await world.ask(work, key())
    assert (await world.ask(work, key())).status == 202
    assert work.done == 2


@pytest.mark.parametrize(
    "error",
    [OutcomeUnknown("Read the operations."), RecordingNotPersisted("x"), RuntimeError("x")],
    ids=["outcome unknown", "recording not persisted", "unexpected error"],
)
async def test_a_request_with_unknown_outcome_is_repeated_only_if_it_is_repeatable(
    world: World, error: Exception
) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        await world.ask(work, key())
    with pytest.raises(OutcomeUnknown, match="operations"):
        await world.ask(work, key())
    assert work.done == 1

    repeatable = Work(error)
    with pytest.raises(type(error)):
        await world.ask(repeatable, key('"two"'), repeatable=True)
    assert (await world.ask(repeatable, key('"two"'), repeatable=True)).status == 202


class Killed(BaseException):
    """The process ends."""


@pytest.mark.parametrize("repeatable", [False, True], ids=["not repeatable", "repeatable"])
async def test_the_key_of_a_process_that_died_stays_claimed_for_five_minutes(world: World, *, repeatable: bool) -> None:
    class Dying(Work):
        async def __call__(self) -> StoredResponse:
            if self.done == 0:
                await self.begin()
                raise Killed
            return await super().__call__()

    work = Dying()
    with pytest.raises(Killed):
        await world.ask(work, key(), repeatable=repeatable)
    await world.clock.advance(IN_PROGRESS_TIMEOUT - SECOND)
    with pytest.raises(RequestInProgress):
        await world.ask(work, key(), repeatable=repeatable)
    await world.clock.advance(SECOND)
    if repeatable:
        assert (await world.ask(work, key(), repeatable=True)).status == 202
    else:
        with pytest.raises(OutcomeUnknown):
            await world.ask(work, key())
    assert work.done == 1 + repeatable


async def test_a_response_that_cannot_be_stored_is_returned_and_nothing_is_done_twice() -> None:
    class Forgetful(CallStore):
        async def settle_idempotency_key(
            self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
        ) -> None:
            raise StoreUnavailable(f"{call_id} {name} {claimed.etag} {request is None}")

    world, work = World(Forgetful(MemoryTable())), Work()
    assert (await world.ask(work, key())).status == 202
    with pytest.raises(RequestInProgress):
        await world.ask(work, key())
    await world.clock.advance(IN_PROGRESS_TIMEOUT)
    with pytest.raises(OutcomeUnknown):
        await world.ask(work, key())
    assert work.done == 1


async def test_a_claim_without_its_event_is_free_after_five_minutes(world: World) -> None:
    """No event shows that Graph was asked. An earlier event of another request does not count."""

    class DyingEarly(Work):
        async def begin(self) -> None:
            if self.done == 0:
                self.done += 1
                raise Killed
            await super().begin()

    await world.write("recordRequested")
    await world.clock.advance(SECOND)
    work = DyingEarly()
    with pytest.raises(Killed):
        await world.ask(work, key())
    await world.clock.advance(IN_PROGRESS_TIMEOUT - SECOND)
    with pytest.raises(RequestInProgress):
        await world.ask(work, key())
    await world.clock.advance(SECOND)
    assert (await world.ask(work, key())).status == 202


async def test_without_a_key_the_same_request_is_a_new_one_after_the_response(world: World) -> None:
    work = Work()
    for _ in range(3):
        await world.ask(work, WITHOUT)
    assert work.done == 3


@pytest.mark.parametrize(
    "error",
    [OutcomeUnknown("x"), RecordingNotPersisted("x"), RuntimeError("x")],
    ids=["outcome unknown", "recording not persisted", "unexpected error"],
)
async def test_without_a_key_a_request_with_unknown_outcome_is_not_repeated(world: World, error: Exception) -> None:
    """A stock client repeats a POST three times, within ten minutes."""
    work = Work(error)
    with pytest.raises(type(error)):
        await world.ask(work, WITHOUT)
    second, third = timedelta(seconds=1), timedelta(seconds=180)
    for wait in (second, third, IMPLIED_KEY_TTL - second - third - SECOND):  # the last, a second before the end
        await world.clock.advance(wait)
        with pytest.raises(OutcomeUnknown, match="Idempotency-Key"):
            await world.ask(work, WITHOUT)
    assert work.done == 1
    await world.ask(work, key())  # a key of its own asks for another recording
    await world.ask(work, implied_key("bot", 'record {"playBeep": false}'))
    await world.ask(work, implied_key("another", "record {}"))
    await world.clock.advance(SECOND)
    await world.ask(work, WITHOUT)
    assert work.done == 5


@pytest.mark.parametrize(
    "header",
    [
        pytest.param('"x"', id="one letter"),
        pytest.param('" "', id="space"),
        pytest.param('"a\\"b\\\\c"', id="escaped quote and backslash"),
        pytest.param(f'"{"x" * MAX_KEY_LENGTH}"', id="longest"),
        pytest.param('"8e03978e-40d5-43dd-bc93-6894a57f9324"', id="GUID"),
    ],
)
def test_a_valid_key_is_a_string_of_a_structured_field(header: str) -> None:
    assert parse_key(header, "bot", "x") is not None


def test_without_the_header_there_is_no_key() -> None:
    assert parse_key(None, "bot", "x") is None


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty header"),
        pytest.param('""', id="empty string"),
        pytest.param("x", id="token"),
        pytest.param("8e03978e-40d5-43dd", id="no quotes"),
        pytest.param('"x', id="no closing quote"),
        pytest.param('x"', id="no opening quote"),
        pytest.param("'x'", id="single quotes"),
        pytest.param('"x","y"', id="list"),
        pytest.param('"x";a=1', id="parameter"),
        pytest.param('"é"', id="not ASCII"),
        pytest.param('"a\tb"', id="tab"),
        pytest.param('"a\\b"', id="backslash before a letter"),
        pytest.param('"a"b"', id="quote inside"),
        pytest.param('"x"\n', id="line break at the end"),
        pytest.param(f'"{"x" * (MAX_KEY_LENGTH + 1)}"', id="one character too long"),
        pytest.param(":eA==:", id="byte sequence"),
        pytest.param("?1", id="boolean"),
        pytest.param('("x")', id="inner list"),
    ],
)
def test_an_invalid_key_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_key(header, "bot", "x")
    assert [name for name, _ in refused.value.errors] == ["Idempotency-Key"]
