"""The command line: `python -m local.host [--port 7071] [--root DIR] [--list]`."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from local.host import logs
from local.host.errors import HostError
from local.host.settings import prepare_environment
from local.host.worker import load

THREAD_GRACE = timedelta(seconds=0.5)  # for each thread at the end of the process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or list the app, and return the exit code."""
    args = _parser().parse_args(arguments)
    logs.configure(logging.WARNING if args.quiet or args.list else logging.INFO)
    root = Path(args.root).resolve()
    try:
        if args.list:
            _list(root)
        else:
            _run(root, args)
    except HostError as error:
        return _failed(str(error), error.detail if args.verbose else "")
    except Exception as error:
        if args.verbose:
            raise
        return _failed(f"unexpected {type(error).__name__}: {error} (use --verbose for the traceback)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.host", description="Run a function app on this machine.")
    parser.add_argument("--address", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=7071, help="the port to listen on; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--root", default=".", metavar="DIR", help="the folder of host.json (default: this one)")
    parser.add_argument("--list", action="store_true", help="print the app's functions as JSON and exit")
    parser.add_argument("--quiet", action="store_true", help="log only warnings and errors, and print no keys")
    parser.add_argument("--verbose", action="store_true", help="print the traceback of an error that stops the host")
    return parser


def _run(root: Path, args: argparse.Namespace) -> None:
    from local.host.run import Options, run  # noqa: PLC0415 - imports the server and the SDK, which --list does not need

    asyncio.run(run(Options(root, args.address, args.port, print_keys=not args.quiet)))


def _list(root: Path) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # the app may print while it is imported
        prepare_environment(root)
        functions = load(root)
    print(json.dumps([function.described() for function in functions], indent=2))


def _failed(message: str, detail: str = "") -> int:
    print(detail + f"host: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _exit(code: int) -> None:
    """End the process although a thread may still run a function. Python itself would wait for the thread forever."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(THREAD_GRACE.total_seconds())
    sys.stdout.flush()
    sys.stderr.flush()
    if any(t is not threading.current_thread() and not t.daemon for t in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
