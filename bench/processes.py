"""Processes of the bench: start them, run their rounds, read their figures, and ask the Graph that counts."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from bench.environment import MAX_RATE, app_settings
from bench.rounds import READY_ROUND, ROUNDS, START_SIGNAL, pattern_of_round
from local.stack import azurite
from local.stack.processes import Child, Children

ROOT = Path(__file__).resolve().parent.parent
MAX_CONTESTANT_TIME = timedelta(minutes=15)  # for one command, or for one round
MAX_START_TIME = timedelta(minutes=1)  # until a process is ready

type Json = dict[str, object]


class BenchError(Exception):
    """A contestant failed, or did not do its work. The message is one line."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round of some processes.

    `figures` are what each process printed. `seconds` is the duration by the clock of this process. `graph_counts` are
    the requests that Graph counted in the round.
    """

    figures: list[Json]
    seconds: float
    graph_counts: Json


@contextmanager
def graph_server(children: Children, keys: str = "{}", *identity: str) -> Iterator[str]:
    """Run the Graph that counts, and yield its address.

    Parameters
    ----------
    children
        The processes that stop together with it.
    keys
        The JSON Web Key Set that it publishes for notification tokens.
    identity
        The path of a PEM file with key and certificate. With it the server speaks https.
    """
    child = children.start("graph", [sys.executable, "-m", "bench.graph", keys, *identity], cwd=ROOT)
    yield child.wait_for(r"graph ready: (\S+)")[1]
    child.stop()


@contextmanager
def filled_storage(graph_url: str, size: int, rate: int = MAX_RATE) -> Iterator[dict[str, str]]:
    """Run a new Azurite with `size` live calls, and yield the settings of an app that uses it."""
    with azurite.running() as storage:
        env = app_settings(storage.connection_string, graph_url, rate)
        run_command(module_command("fill", size), env)
        yield env


def module_command(name: str, *arguments: object) -> list[str]:
    """Return the command line of a module of the bench."""
    return [sys.executable, "-m", f"bench.{name}", *map(str, arguments)]


def run_command(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end, and return what it printed.

    Raises
    ------
    BenchError
        The command failed.
    """
    done = subprocess.run(  # noqa: S603 (our own command lines)
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_CONTESTANT_TIME.total_seconds(),
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise BenchError(f"{' '.join(command[1:4])} failed: {lines[-1]}")
    return done.stdout


def parse_figures(output: str) -> Json:
    """Return the last line of JSON that a contestant printed. Libraries may print lines after it.

    Raises
    ------
    BenchError
        There is no such line.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise BenchError(f"no figures were printed: {output.strip()[-200:]}")
    return cast("Json", json.loads(lines[-1]))


def run_rounds(
    graph_url: str, size: int, commands: Sequence[Sequence[str]], env: Mapping[str, str], before: str = "reset"
) -> Generator[Round]:
    """Let processes work at the same time, round by round, and yield each round.

    Parameters
    ----------
    graph_url
        Address of the Graph that counts.
    size
        Number of calls; Graph compares what it is asked with the first `size` ids.
    commands, env
        The command lines of the processes, and the settings that they get.
    before
        The path that Graph is asked before each round: `reset` or `outage`.
    """
    with Children() as children:
        started = [
            children.start(" ".join(command[2:]), command, env={"PYTHONPATH": str(ROOT), **env}, cwd=ROOT)
            for command in commands
        ]
        _wait_for_round(started, READY_ROUND, MAX_START_TIME)
        for number in ROUNDS:
            ask_graph(graph_url, before)
            began = time.monotonic()
            for child in started:
                child.send(START_SIGNAL)
            lines = _wait_for_round(started, number, MAX_CONTESTANT_TIME)
            seconds = time.monotonic() - began
            yield Round([parse_figures(line) for line in lines], seconds, ask_graph(graph_url, f"counts/{size}"))


def run_exact_rounds(
    graph_url: str, size: int, commands: Sequence[Sequence[str]], env: Mapping[str, str]
) -> list[Round]:
    """Run all rounds, and check that each round renewed each call exactly once; parameters as of `run_rounds`.

    Raises
    ------
    BenchError
        A call was left out, renewed twice, or is none of the bench.
    """
    rounds = []
    for each in run_rounds(graph_url, size, commands, env):
        check_asked_once(each.graph_counts, size)
        rounds.append(each)
    return rounds


def check_asked_once(counts: Json, size: int) -> None:
    """Raise `BenchError` unless Graph was asked exactly once for each of `size` calls."""
    if (counts["missing"], counts["strange"], counts["repeated"]) != (0, 0, 0):
        raise BenchError(f"Graph was not asked once for each of {size} calls: {counts}")


def ask_graph(url: str, path: str, authority: str | None = None) -> Json:
    """Send a GET to the Graph that counts; `authority` is the path of its root certificate if it has https."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    with urllib.request.urlopen(f"{url}/{path}", context=context) as answer:  # noqa: S310 (our own server)
        return cast("Json", json.load(answer))


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def print_progress(line: str) -> None:
    """Print to stderr what the bench does now."""
    print(f"bench: {line} …", file=sys.stderr, flush=True)


def _wait_for_round(children: Sequence[Child], number: int, limit: timedelta) -> list[str]:
    """Wait for the line of a round from each process, and return the lines."""
    return [child.wait_for(pattern_of_round(number), limit.total_seconds())[0] for child in children]
