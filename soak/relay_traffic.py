"""Graph's notifications about calls that go on: updates alone, in bursts, about several calls, or with a question."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from soak.graph_posts import GraphPosts, body_of, item_of
from soak.intervals import MINUTE
from soak.virtual_graph import VirtualCall

type Notify = Callable[[VirtualCall, bytes, float], Coroutine[Any, Any, None]]  # posts a body after some seconds
type Spawn = Callable[[Coroutine[Any, Any, None]], None]


class RelayTraffic:
    """Sends the notifications that only matter if they are relayed."""

    def __init__(self, posts: GraphPosts, notify: Notify, spawn: Spawn, seed: int) -> None:
        self._posts = posts
        self._profile = posts.schedule.profile
        self._notify = notify
        self._spawn = spawn
        self._random = Random(f"{seed}/relay/traffic")
        self._serial = 0
        self._live: dict[str, VirtualCall] = {}

    def next_serial(self) -> int:
        """Return the serial of a new notification."""
        self._serial += 1
        return self._serial

    async def follow(self, call: VirtualCall) -> None:
        """Send updates of a call until it has ended."""
        random, profile = self._random, self._profile
        self._live[call.id] = call
        while True:
            await asyncio.sleep(random.expovariate(1 / profile.update_interval) * MINUTE)
            if call.ended is not None:
                del self._live[call.id]
                return
            several = random.randint(2, 5) if random.random() < profile.burst_share else 1
            for _ in range(several):
                body = self._draw_body(call)
                for _ in range(1 + (random.random() < profile.duplicate_share)):
                    self._spawn(self._notify(call, body, random.random() * several))

    def _draw_body(self, call: VirtualCall) -> bytes:
        random, profile = self._random, self._profile
        calls = [call]
        if random.random() < profile.several_share:
            query = self._posts.callback(call).query
            others = [
                each
                for each in self._live.values()
                if each is not call and each.tenant == call.tenant and self._posts.callback(each).query == query
            ]
            calls += random.sample(others, min(len(others), random.randint(1, 2)))
        items = [self._draw_item(each) for each in calls]
        if random.random() < profile.question_share:
            question = {"@odata.type": "#microsoft.graph.participantJoiningNotification", "id": str(self._serial)}
            items.append(item_of(call.id, self.next_serial(), question))
            items = items[-1:] if random.random() < 0.5 else items
        return body_of(items)

    def _draw_item(self, call: VirtualCall) -> object:
        if self._random.random() < 0.3:
            data = {"@odata.type": "#microsoft.graph.call", "state": "established"}
            return item_of(call.id, self.next_serial(), data)
        data = {"@odata.type": "#microsoft.graph.participant", "id": str(self._serial)}
        return item_of(call.id, self.next_serial(), data, resource="/participants")
