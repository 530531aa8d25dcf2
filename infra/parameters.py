"""A parameter file of Bicep: the variables that it reads, and the app registration that it may ask for."""

import argparse
import re
from collections.abc import Iterable

from infra.azure_rights import Account
from infra.commands import ROOT, CommandError, Steps, asked, objects

PARAMETERS = "infra/params/minimal.bicepparam"  # the workflow's default, too
MANAGEMENT = "call-keeper-management"


def text(path: str) -> str:
    """Read the file, by its path from the repository's folder."""
    return (ROOT / path).read_text(encoding="utf-8")


def read(path: str) -> set[str]:
    """Tell the names of all variables that the file reads."""
    return set(re.findall(r"readEnvironmentVariable\('([A-Z_]+)'", text(path)))


def needed(path: str) -> set[str]:
    """Tell the variables that the workflow must set. It sets others to nothing, so a default does not count there."""
    return set(re.findall(r"readEnvironmentVariable\('([A-Z_]+)', '[^']", text(path)))


def makes_locks(path: str) -> bool:
    """Tell whether the file asks for locks."""
    return re.search(r"^param deleteLock = true$", text(path), re.MULTILINE) is not None


def refuse_unread(path: str, names: Iterable[str]) -> None:
    """Refuse variables that the file does not read: most often a name is misspelt.

    Raises
    ------
    CommandError
        It names them, and those that the file reads.
    """
    known = read(path)
    if unread := sorted(set(names) - known):
        raise CommandError(f"{path} does not read {', '.join(unread)}. It reads {', '.join(sorted(known))}")


def with_management(steps: Steps, account: Account, path: str, variables: dict[str, str]) -> dict[str, str]:
    """Add the app registration of management to the variables, if the file asks for one. It is made if none is named.

    Raises
    ------
    CommandError
        The directory refuses to make one, or has several of its name.
    """
    if "MANAGEMENT_APP_ID" not in read(path):
        return variables
    app = variables.get("MANAGEMENT_APP_ID") or _registration(steps)
    return {"MANAGEMENT_TENANT_ID": account.tenant} | variables | {"MANAGEMENT_APP_ID": app}


def _registration(steps: Steps) -> str:
    listed = objects(asked("az", "ad", "app", "list", "--display-name", MANAGEMENT, "--output", "json"))
    there = [str(app["appId"]) for app in listed if app.get("displayName") == MANAGEMENT]  # az finds longer names too
    if len(there) > 1:
        raise CommandError(
            f"{len(there)} app registrations are named {MANAGEMENT}: choose one by --variable MANAGEMENT_APP_ID=…"
        )
    if there:
        steps.there(f"app registration {MANAGEMENT}")
        return there[0]
    command = ("az", "ad", "app", "create", "--display-name", MANAGEMENT, "--sign-in-audience", "AzureADMyOrg")
    version = ("--requested-access-token-version", "2", "--output", "json")
    try:
        made = steps.change(f"app registration {MANAGEMENT}", *command, *version)
    except CommandError as error:
        raise CommandError(f"{error}. One that is there is taken with --variable MANAGEMENT_APP_ID=…") from error
    return str(made.get("appId") or f"<client id of {MANAGEMENT}>")


def add_parameter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--parameters` and `--variable`, which choose a parameter file and set what it reads."""
    add = parser.add_argument
    add(
        "--parameters",
        type=parameter_file,
        default=PARAMETERS,
        metavar="FILE",
        help="parameter file of Bicep (default: %(default)s)",
    )
    add(
        "--variable",
        action="append",
        type=variable,
        default=[],
        metavar="NAME=VALUE",
        help="that the parameter file reads, such as ALERT_EMAIL=…; can be repeated",
    )


def parameter_file(argument: str) -> str:
    """Read an argument that is a parameter file, by its path from the repository's folder."""
    if not (ROOT / argument).is_file():
        raise argparse.ArgumentTypeError(f"{argument} is not in this repository")
    return argument


def variable(argument: str) -> tuple[str, str]:
    """Read an argument of the form NAME=VALUE."""
    name, _, value = argument.partition("=")
    if not (value and re.fullmatch(r"[A-Z_]+", name)):
        raise argparse.ArgumentTypeError(f"{argument} is not of the form NAME=VALUE")
    return name, value
