"""Everything in the foreground until Ctrl-C: `make up`, or `python -m local.up`."""

import argparse
import contextlib
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from local.demo.__main__ import TENANT
from local.demo.story import Story
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from local.stack.stack import APP_ID, Options, Ports, Stack, running

PORTS = Ports(host=7071, simulator=8080, blob=10000, queue=10001, table=10002)
MOST_SPEED = 900  # a lease of 3 seconds; the timer fires once a second at most
CALL = "57dab8b1-894c-409a-b240-bd8beae78896"  # the documents' own example


class CannotStart(Exception):
    """A port is in use, or Core Tools are not there. The message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C; the exit code."""
    args = _parser().parse_args(arguments)
    schedule = args.schedule or ("0 */15 * * * *" if args.speed == 1 else "*/15 * * * * *")
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
    parser = argparse.ArgumentParser(prog="python -m local.up", description="Run Call Keeper on this machine.")
    parser.add_argument("--host", choices=("local", "func"), default="local", help="func: Azure Functions Core Tools")
    parser.add_argument("--speed", type=_speed, default=1, help="60 makes the 45 minutes of a lease 45 seconds")
    parser.add_argument("--schedule", help="NCRONTAB of the timer; every 15 minutes, or seconds where time is sped up")
    return parser


def _speed(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 1 <= float(text) <= MOST_SPEED:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a speed from 1 to {MOST_SPEED}")


def _check_host(host: str) -> None:
    if host == "func" and shutil.which("func") is None:
        raise CannotStart("Azure Functions Core Tools (func) are not installed. Install them, or leave out HOST=func.")


def _check_ports() -> None:
    names = {"host": PORTS.host, "simulator": PORTS.simulator, "Azurite": PORTS.blob}
    for name, port in {**names, "Azurite's queues": PORTS.queue, "Azurite's tables": PORTS.table}.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise CannotStart(f"port {port} is in use, and {name} needs it. Stop what listens there.") from None


def _welcome(stack: Stack, speed: float) -> None:
    story, simulator = Story(), stack.simulator
    pace = "in real time" if speed == 1 else f"time runs {speed:g} times as fast"
    story.title("Call Keeper runs. Ctrl-C ends it.")
    print(f"""
  API            {stack.api}           (OpenAPI: {stack.api}/openapi.json)
  Graph          {simulator}               (simulated, {pace})
  function key   {stack.function_key}

  A call begins at the simulated Graph:
    curl -X POST {simulator}/control/calls -H 'Content-Type: application/json' -d \\
      '{{"id":"{CALL}","tenantId":"{TENANT}","appId":"{APP_ID}","callbackUri":"{stack.api}/notifications"}}'
  Its bot registers it, and Call Keeper keeps it:
    curl -X PUT {stack.api}/calls/{CALL} -H 'x-functions-key: {stack.function_key}' \\
      -H 'Content-Type: application/json' -d '{{"tenantId":"{TENANT}"}}'
  How is it, and why did it end?
    curl {stack.api}/calls/{CALL} -H 'x-functions-key: {stack.function_key}'
  Is all well?
    make doctor ARGS="--only health --url {stack.address}"
""")


def _wait(stack: Stack) -> None:
    """Until Ctrl-C or SIGTERM, or until a part of it ends."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.wait(0.5):
        stack.check()


if __name__ == "__main__":
    sys.exit(main())
