"""`make up`, or `python -m local.up`: runs Azurite, the simulator and the host in the foreground until Ctrl-C."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta

from local.demo.__main__ import TENANT
from local.demo.console import Console
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from local.stack.stack import APP_ID, Options, Ports, Stack, running

PORTS = Ports(host=7071, simulator=8080, blob=10000, queue=10001, table=10002)
MAX_SPEED = 900  # a lease then takes 45 * 60 / 900 = 3 s, and a timer fires at most once a second
CALL = "57dab8b1-894c-409a-b240-bd8beae78896"  # the example of Graph's documentation
BOT = "http://127.0.0.1:3978"  # where the example bots listen
RELAY_TARGETS = json.dumps(
    [
        {"name": "bot", "format": "graph", "url": f"{BOT}/notifications"},
        {"name": "events", "format": "events", "url": f"{BOT}/events", "audience": APP_ID},
    ]
)
SCHEDULE = "0 */15 * * * *"
FAST_SCHEDULE = "*/15 * * * * *"  # with 60 minutes in a minute
CHECK_INTERVAL = timedelta(seconds=0.5)


class CannotStart(Exception):
    """A port is in use, or Core Tools are not installed. The message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C and return the exit code."""
    args = _parser().parse_args(arguments)
    schedule = args.schedule or (SCHEDULE if args.speed == 1 else FAST_SCHEDULE)
    options = Options(args.speed, schedule, PORTS, core_tools=args.host == "func", echo=True)
    try:
        _check_host(args.host)
        _check_ports()
        with running(options) as stack:
            _welcome(stack, args.speed)
            _wait(stack)
    except (AzuriteError, ProcessError, CannotStart) as error:
        print(f"up: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nup: stopped", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.up", description="Run Call Keeper and a simulated Graph on this machine."
    )
    parser.add_argument(
        "--host", choices=("local", "func"), default="local", help="func: use Azure Functions Core Tools"
    )
    parser.add_argument(
        "--speed", type=_speed, default=1, help="with 60, the 45 minutes of a lease take 45 seconds (default: 1)"
    )
    parser.add_argument(
        "--schedule", help="NCRONTAB of the timer (default: every 15 minutes; every 15 seconds with --speed)"
    )
    return parser


def _speed(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 1 <= float(text) <= MAX_SPEED:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a speed from 1 to {MAX_SPEED}")


def _check_host(host: str) -> None:
    if host == "func" and shutil.which("func") is None:
        raise CannotStart("Azure Functions Core Tools (func) are not installed. Install them, or omit HOST=func.")


def _check_ports() -> None:
    names = {"the host": PORTS.host, "the simulator": PORTS.simulator, "Azurite": PORTS.blob}
    for name, port in {**names, "Azurite's queues": PORTS.queue, "Azurite's tables": PORTS.table}.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise CannotStart(
                    f"{name} needs port {port}, which is in use. Stop the process that listens there."
                ) from None


def _welcome(stack: Stack, speed: float) -> None:
    console, simulator = Console(), stack.simulator
    clock = "in real time" if speed == 1 else f"time runs {speed:g} times as fast"
    console.title("Call Keeper is running. Press Ctrl-C to stop it.")
    print(f"""
  API            {stack.api}           (OpenAPI: {stack.api}/openapi.json)
  Graph          {simulator}               (simulated, {clock})
  function key   {stack.function_key}

  Start a call at the simulated Graph:
    curl -X POST {simulator}/control/calls -H 'Content-Type: application/json' -d \\
      '{{"id":"{CALL}","tenantId":"{TENANT}","appId":"{APP_ID}","callbackUri":"{stack.api}/notifications"}}'
  Register it with Call Keeper, which then keeps it alive:
    curl -X PUT {stack.api}/calls/{CALL} -H 'x-functions-key: {stack.function_key}' \\
      -H 'Content-Type: application/json' -d '{{"tenantId":"{TENANT}"}}'
  Read its state and, later, why it ended:
    curl {stack.api}/calls/{CALL} -H 'x-functions-key: {stack.function_key}'
  Check the health of the host:
    make doctor ARGS="--only health --url {stack.address}"
{_about_relay(stack)}""")


def _about_relay(stack: Stack) -> str:
    """Return how to turn the relay on; if it is on, how to start a bot that receives what is relayed."""
    if not os.environ.get("RELAY_TARGETS"):
        return f"""  Relay notifications and events to a bot of yours: start again with its addresses:
    RELAY_TARGETS='{RELAY_TARGETS}' make up
"""
    settings = {**stack.bot_settings(), "BOT_SECRET": "any"}
    variables = "".join(f"{name}={value} \\\n      " for name, value in settings.items())
    return f"""  Start the example bot, which receives what is relayed, in another terminal:
    {variables}.venv/bin/python examples/bots/python/bot.py
  Start a call as above. Then let the user press a key. The bot records an answer and hangs up:
    curl -X POST {stack.simulator}/control/calls/{CALL}/tone -H 'Content-Type: application/json' -d '{{"tone":"tone5"}}'
"""


def _wait(stack: Stack) -> None:
    """Wait until Ctrl-C, SIGTERM, or the end of one of the processes, which raises."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.wait(CHECK_INTERVAL.total_seconds()):
        stack.check()


if __name__ == "__main__":
    sys.exit(main())
