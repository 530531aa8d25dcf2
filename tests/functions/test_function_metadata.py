"""The functions that Microsoft's worker library lists, in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from functions.routing import Route
from tests.functions.harness import ROOT, ROUTES

type Listed = dict[str, dict[str, Any]]  # Functions metadata has no schema of its own

DESIGNED = {  # a renamed handler would rename a function of Azure and an operationId
    ("register_call", "PUT", "calls/{callId}"),
    ("list_calls", "GET", "calls"),
    ("read_call", "GET", "calls/{callId}"),
    ("list_events", "GET", "calls/{callId}/events"),
    ("hang_up_call", "POST", "calls/{callId}/hangup"),
    ("record_call", "POST", "calls/{callId}/record"),
    ("list_operations", "GET", "calls/{callId}/operations"),
    ("read_operation", "GET", "calls/{callId}/operations/{operationId}"),
    ("list_deliveries_of_call", "GET", "calls/{callId}/deliveries"),
    ("list_deliveries", "GET", "deliveries"),
    ("replay_delivery", "POST", "deliveries/{deliveryId}/replay"),
    ("replay_span", "POST", "deliveries/replay"),
    ("enable_target", "POST", "relay/targets/{name}/enable"),
    ("list_termination_codes", "GET", "termination-codes"),
    ("keep_alive_now", "POST", "keep-alive"),
    ("receive_notifications", "POST", "notifications"),
    ("health", "GET", "health"),
    ("openapi", "GET", "openapi.json"),
}
OPEN = {"notifications", "health", "openapi.json"}  # to the platform; the first verifies Graph's token


@pytest.fixture(scope="module")
def listed() -> Listed:
    """The functions by name, listed with no setting at all: an import needs none."""
    return _list()


@pytest.fixture(scope="module")
def listed_with_targets() -> Listed:
    """The functions by name if RELAY_TARGETS is set."""
    return _list(RELAY_TARGETS='[{"name": "bot", "url": "https://bot.example/calls", "format": "graph"}]')


def _list(**settings: str) -> Listed:
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    done = subprocess.run(
        [sys.executable, "-m", "local.host", "--list"],
        cwd=ROOT,
        env={**env, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return {function["name"]: function for function in json.loads(done.stdout)}


def _trigger(function: dict[str, Any]) -> dict[str, Any]:
    (found,) = [binding for binding in function["bindings"] if binding["type"].endswith("Trigger")]
    return dict(found)


def test_the_host_finds_the_routes_and_the_wake_ups_and_nothing_else(listed: Listed) -> None:
    assert set(listed) == {route.name for route in ROUTES} | {"keep_alive_timer", "keep_alive_queue"}


def test_the_routes_are_those_that_were_designed() -> None:
    assert {(route.name, route.method, route.path) for route in ROUTES} == DESIGNED
    assert not [route for route in ROUTES if route.path.startswith(("admin", "runtime"))]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_the_host_gets_each_route_as_it_is_declared(listed: Listed, route: Route) -> None:
    trigger = _trigger(listed[route.name])
    assert trigger["type"] == "httpTrigger"
    methods = ["GET", "HEAD"] if route.method == "GET" else [route.method]
    assert (trigger["methods"], trigger["route"]) == (methods, route.path)
    level = "anonymous" if route.path in OPEN else "function"
    assert trigger["authLevel"].lower() == level == route.auth_level.value.lower()
    assert (route.role is None) == (route.path in OPEN)


def test_the_timer_goes_by_the_setting_with_a_monitor_and_not_at_the_start(listed: Listed) -> None:
    trigger = _trigger(listed["keep_alive_timer"])
    assert trigger["type"] == "timerTrigger"
    assert trigger["schedule"] == "%KEEP_ALIVE_SCHEDULE%"
    assert trigger["runOnStartup"] is False
    assert trigger["useMonitor"] is True


def test_the_queue_is_that_of_the_wake_ups_on_the_calls_storage(listed: Listed) -> None:
    trigger = _trigger(listed["keep_alive_queue"])
    assert trigger["type"] == "queueTrigger"
    assert (trigger["queueName"], trigger["connection"]) == ("keep-alive", "CALLS_STORAGE")


def test_with_targets_the_relay_has_its_queue_and_its_timer(listed: Listed, listed_with_targets: Listed) -> None:
    added = {name: each for name, each in listed_with_targets.items() if name not in listed}
    assert added.keys() == {"relay_queue", "relay_timer"}
    queue, timer = _trigger(added["relay_queue"]), _trigger(added["relay_timer"])
    assert (queue["type"], queue["queueName"], queue["connection"]) == ("queueTrigger", "relay", "CALLS_STORAGE")
    assert (timer["type"], timer["schedule"]) == ("timerTrigger", "30 * * * * *")
    assert (timer["runOnStartup"], timer["useMonitor"]) == (False, False)


@pytest.mark.parametrize(
    ("targets", "count"), [pytest.param("", 0, id="empty"), pytest.param("not JSON", 2, id="wrong")]
)
def test_wrong_targets_load_the_functions_and_empty_ones_do_not(listed: Listed, targets: str, count: int) -> None:
    """The relay is off with wrong targets: its timer does nothing then, and health names the setting."""
    assert len(_list(RELAY_TARGETS=targets)) == len(listed) + count


def test_no_function_has_an_output_but_the_answer_to_a_request(listed: Listed) -> None:
    outputs = {binding["type"] for f in listed.values() for binding in f["bindings"] if binding["direction"] == "OUT"}
    assert outputs == {"http"}
