"""When a shard becomes stale, and watermarks that cannot be read."""

from datetime import timedelta

import pytest

from shared.domain.leases import Timing, Watermark
from shared.keeping.watermarks import read_watermarks, time_until_stale
from shared.storage.store import SHARDS
from tests.support.keeping import MINUTE, BrokenStore
from tests.support.stores import NOW


class TestTimeUntilStale:
    @pytest.mark.parametrize(
        ("swept_ago", "stale_in"),
        [
            pytest.param(timedelta(), 20 * MINUTE, id="just swept"),
            pytest.param(19 * MINUTE, MINUTE, id="nearly stale"),
            pytest.param(25 * MINUTE, -5 * MINUTE, id="stale for 5 minutes"),
            pytest.param(-4 * MINUTE, 24 * MINUTE, id="by a clock that is 4 minutes ahead"),
            pytest.param(-5 * MINUTE, timedelta(), id="of the future, so not credible"),
        ],
    )
    def test_counts_from_the_start_of_the_sweep(self, swept_ago: timedelta, stale_in: timedelta) -> None:
        assert time_until_stale(Watermark(NOW - swept_ago, NOW), NOW, Timing()) == stale_in

    def test_is_zero_for_a_shard_that_was_never_swept(self) -> None:
        assert time_until_stale(None, NOW, Timing()) == timedelta()


class TestReadWatermarks:
    async def test_one_that_cannot_be_read_counts_as_none(self, caplog: pytest.LogCaptureFixture) -> None:
        store = BrokenStore()
        for shard in range(SHARDS):
            await store.put_watermark(shard, Watermark(NOW, NOW, renewed=shard))
        store.unreadable_shards = {3}
        marks = await read_watermarks(store)
        assert [mark.renewed if mark else None for mark in marks] == [*range(3), None, *range(4, SHARDS)]
        assert caplog.text.count("keep_alive.state_access.failed") == 1
