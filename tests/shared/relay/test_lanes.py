"""The lanes of the relay: a worker leaves no delivery behind that was added while it worked."""

from shared.domain.deliveries import DeliveryStatus
from tests.support.relay import CALL, LANE, Relay


async def test_what_is_added_while_a_batch_is_attempted_is_not_left_behind() -> None:
    """The conflict of the first result must not hide from the last one that a delivery was added."""
    relay = Relay()
    await relay.add(1)
    await relay.add(2)
    relay.bot.before_answers = [lambda: relay.add(3)]

    await relay.deliverer.work(LANE)

    assert relay.bot.received == [b"1", b"2", b"3"]
    assert {each.status for each in await relay.outbox.list_of_call(CALL)} == {DeliveryStatus.DELIVERED}
    assert await relay.outbox.get_lane(LANE) is None
