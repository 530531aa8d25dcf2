"""Runs `az`, `gh` and our own scripts: what they print as JSON, their errors in one line.

Python's own library and nothing else, as in all of `infra`: an operator needs no development set-up.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

Json = dict[str, object]
MAX_WORDS = 800  # characters of an error that are shown
ROOT = Path(__file__).resolve().parent.parent
MAX_DURATION = timedelta(minutes=45)  # of one command; the longest, a first deployment, takes a few minutes
_WHERE_TO_GET = {"az": "https://aka.ms/azure-cli", "gh": "https://cli.github.com"}
_ABSENT = ("ResourceNotFound", "ResourceGroupNotFound", "could not be found", "was not found", "HTTP 404", "Not Found")


class CommandError(Exception):
    """A command failed, or cannot be run. The message is one line that says what to do."""


class NotFoundError(CommandError):
    """The command asked for something that does not exist."""


@dataclass(frozen=True)
class Steps:
    """Changes, one clear line for each: `done`, `there` if nothing had to be done, `would` in a dry run."""

    dry_run: bool = False

    def there(self, what: str) -> None:
        """Tell that something is as it should be."""
        sys.stdout.write(f"there: {what}\n")

    def note(self, what: str) -> None:
        """Tell what the operator should know or do."""
        sys.stdout.write(f"note:  {what}\n")

    def change(self, what: str, *command: str, text: str | None = None) -> Json:
        """Run a command that changes something and return the object it prints.

        A dry run prints the command instead and returns an empty object.
        """
        if self.dry_run:
            given = f" <<< {shlex.quote(text)}" if text else ""
            sys.stdout.write(f"would: {what}\n       {shlex.join(command)}{given}\n")
            return {}
        printed = output(*command, text=text)
        sys.stdout.write(f"done:  {what}\n")
        sys.stdout.flush()
        return as_object(_parsed(printed))


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
    try:
        done = _run(command, text, env)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{command[0]} did not end in {MAX_DURATION}. Run this again") from error
    if done.returncode:
        raise _failure(" ".join(command[:3]), done.stderr or done.stdout)
    return done.stdout


def _run(command: Sequence[str], text: str | None, env: Mapping[str, str] | None) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0])
    if program is None:
        where = _WHERE_TO_GET.get(command[0], "docs/deploy.md")
        raise CommandError(f"{command[0]} is not installed. See {where}")
    return subprocess.run(  # noqa: S603 - a program by its name, its arguments apart, no shell
        [program, *command[1:]],
        input=text,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_DURATION.total_seconds(),
    )


def shown(*command: str) -> None:
    """Run a command in the repository's folder; the terminal shows what it prints.

    Raises
    ------
    CommandError
        The program is not installed, or failed. It has told why.
    """
    program = shutil.which(command[0])
    if program is None:
        raise CommandError(f"{command[0]} is not installed. See docs/deploy.md, Before you begin")
    sys.stdout.flush()
    done = subprocess.run([program, *command[1:]], cwd=ROOT, check=False)  # noqa: S603 - as below
    if done.returncode:
        raise CommandError(f"{shlex.join(command)} failed: what it told is above")


def asked(*command: str, env: Mapping[str, str] | None = None) -> object:
    """Run a command that prints JSON, and return what it printed; None if it printed nothing.

    Raises
    ------
    CommandError
        It failed, or printed something else than JSON.
    """
    printed = output(*command, env=env)
    try:
        answer: object = json.loads(printed or "null")
    except ValueError:
        raise CommandError(f"{' '.join(command[:3])} printed no JSON: {_one_line(printed)}") from None
    return answer


def found(*command: str) -> object:
    """Run a command that prints JSON; None if what it asks for does not exist."""
    try:
        return asked(*command)
    except NotFoundError:
        return None


def as_object(value: object) -> Json:
    """Return a JSON object as it is; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Json]:
    """Return the objects of a JSON list; none if the value is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _parsed(printed: str) -> object:
    try:
        answer: object = json.loads(printed)
    except ValueError:
        return None
    return answer


def _failure(name: str, said: str) -> CommandError:
    kind = NotFoundError if any(words in said for words in _ABSENT) else CommandError
    return kind(f"{name} failed: {_one_line(_error_of(said)) or 'it did not say why'}")


def _error_of(said: str) -> str:
    """Leave out the warnings that `az` tells before its error, such as those of Bicep."""
    _, error, words = said.partition("ERROR: ")
    return error + words if error else said


def _one_line(said: str) -> str:
    return " ".join(said.split())[:MAX_WORDS]
