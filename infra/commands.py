"""Runs `az`, `gh` and our own scripts: it parses the JSON that they print, and shortens their errors to one line.

All of `infra` uses only Python's standard library, so that an operator needs no development set-up.
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
MAX_ERROR_LENGTH = 800  # characters that are shown
RUN_AGAIN = "Completed steps stay. Correct the problem, then run the same command again."
ROOT = Path(__file__).resolve().parent.parent
MAX_DURATION = timedelta(minutes=45)  # of one command; a first deployment is the longest and takes a few minutes
_INSTALL_PAGES = {"az": "https://aka.ms/azure-cli", "gh": "https://cli.github.com"}
_NOT_FOUND_TEXTS = (
    "ResourceNotFound",
    "ResourceGroupNotFound",
    "could not be found",
    "was not found",
    "HTTP 404",
    "Not Found",
)


class CommandError(Exception):
    """A command failed, or cannot be run. The message is one line that says what to do."""


class NotFoundError(CommandError):
    """The object that the command names does not exist."""


@dataclass(frozen=True)
class Steps:
    """The changes of a command, with one line for each: `done`, `there` if it already existed, `would` in a dry run."""

    dry_run: bool = False

    def report_existing(self, what: str) -> None:
        """Print that something already is as it should be."""
        sys.stdout.write(f"there: {what}\n")

    def note(self, text: str) -> None:
        """Print something that the operator should know or do."""
        sys.stdout.write(f"note:  {text}\n")

    def change(self, what: str, *command: str, text: str | None = None) -> Json:
        """Run a command that changes something, and return the JSON object that it prints.

        A dry run prints the command instead, and returns an empty object.

        Parameters
        ----------
        what
            The thing that is created or changed, for the line.
        command
            The program and its arguments.
        text
            Its standard input.
        """
        if self.dry_run:
            standard_input = f" <<< {shlex.quote(text)}" if text else ""
            sys.stdout.write(f"would: {what}\n       {shlex.join(command)}{standard_input}\n")
            return {}
        printed = run(*command, text=text)
        sys.stdout.write(f"done:  {what}\n")
        sys.stdout.flush()
        return as_object(_parsed(printed))


def run(*command: str, text: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command, and return its output.

    Parameters
    ----------
    command
        The name of the program, which is on the PATH, and its arguments.
    text
        Standard input of the program.
    env
        The whole environment of the program; the default is the environment of this process.

    Raises
    ------
    NotFoundError
        The program reported that the object does not exist.
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
        where = _INSTALL_PAGES.get(command[0], "docs/deploy.md")
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


def run_visibly(*command: str) -> None:
    """Run a command in the repository's folder, and show its output on the terminal.

    Raises
    ------
    CommandError
        The program is not installed, or failed. Its own output says why.
    """
    program = shutil.which(command[0])
    if program is None:
        raise CommandError(f"{command[0]} is not installed. See docs/deploy.md, Before you begin")
    sys.stdout.flush()
    done = subprocess.run([program, *command[1:]], cwd=ROOT, check=False)  # noqa: S603 - as below
    if done.returncode:
        raise CommandError(f"{shlex.join(command)} failed: see its output above")


def run_json(*command: str, env: Mapping[str, str] | None = None) -> object:
    """Run a command that prints JSON, and return the value; None if it printed nothing.

    Raises
    ------
    CommandError
        The command failed, or printed something that is not JSON.
    """
    printed = run(*command, env=env)
    try:
        answer: object = json.loads(printed or "null")
    except ValueError:
        raise CommandError(f"{' '.join(command[:3])} printed no JSON: {_one_line(printed)}") from None
    return answer


def find_json(*command: str) -> object:
    """Run a command that prints JSON, and return the value; None if the object does not exist."""
    try:
        return run_json(*command)
    except NotFoundError:
        return None


def as_object(value: object) -> Json:
    """Return a JSON object unchanged; an empty object if the value is something else."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Json]:
    """Return the objects in a JSON list; none if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _parsed(printed: str) -> object:
    try:
        answer: object = json.loads(printed)
    except ValueError:
        return None
    return answer


def _failure(name: str, errors: str) -> CommandError:
    kind = NotFoundError if any(text in errors for text in _NOT_FOUND_TEXTS) else CommandError
    return kind(f"{name} failed: {_one_line(_without_warnings(errors)) or 'it printed no reason'}")


def _without_warnings(errors: str) -> str:
    """Remove the warnings that `az` prints before its error, such as those of Bicep."""
    _, marker, message = errors.partition("ERROR: ")
    return marker + message if marker else errors


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_ERROR_LENGTH]
