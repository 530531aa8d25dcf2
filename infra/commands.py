"""Runs `az`, `gh` and our own scripts: what they print as JSON, their errors in one line.

Python's own library and nothing else, as in all of `infra`: an operator needs no development set-up.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from datetime import timedelta

MAX_DURATION = timedelta(minutes=45)  # of one command; the longest, a first deployment, takes a few minutes
_WHERE_TO_GET = {"az": "https://aka.ms/azure-cli", "gh": "https://cli.github.com"}
_ABSENT = ("ResourceNotFound", "ResourceGroupNotFound", "could not be found", "was not found", "HTTP 404", "Not Found")


class CommandError(Exception):
    """A command failed, or cannot be run. The message is one line that says what to do."""


class NotFoundError(CommandError):
    """The command asked for something that does not exist."""


def output(*command: str, text: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Parameters
    ----------
    command
        The program, by its name on the path, and its arguments.
    text
        What the program reads from its standard input.
    env
        The whole environment of the program; that of this process if it is not given.

    Raises
    ------
    NotFoundError
        The program said that the object it was asked for does not exist.
    CommandError
        The program is not installed, failed, or did not end in time.
    """
    name = command[0]
    program = shutil.which(name)
    if program is None:
        raise CommandError(f"{name} is not installed. See {_WHERE_TO_GET.get(name, 'docs/deploy.md')}")
    try:
        done = subprocess.run(  # noqa: S603 - a program by its name, its arguments apart, no shell
            [program, *command[1:]],
            input=text,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAX_DURATION.total_seconds(),
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{name} did not end in {MAX_DURATION}. Run this again") from error
    if done.returncode:
        raise _failure(" ".join(command[:3]), done.stderr or done.stdout)
    return done.stdout


def asked(*command: str) -> object:
    """Run a command that prints JSON, and return what it printed; None if it printed nothing.

    Raises
    ------
    CommandError
        It failed, or printed something else than JSON.
    """
    printed = output(*command)
    try:
        found: object = json.loads(printed or "null")
    except ValueError:
        raise CommandError(f"{' '.join(command[:3])} printed no JSON: {_one_line(printed)}") from None
    return found


def found(*command: str) -> object:
    """Run a command that prints JSON; None if what it asks for does not exist."""
    try:
        return asked(*command)
    except NotFoundError:
        return None


def _failure(name: str, said: str) -> CommandError:
    kind = NotFoundError if any(words in said for words in _ABSENT) else CommandError
    return kind(f"{name} failed: {_one_line(said) or 'it did not say why'}")


def _one_line(said: str) -> str:
    return " ".join(said.split())[:500]
