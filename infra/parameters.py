"""A parameter file of Bicep: the variables that it reads, and the app registration that it may need."""

import argparse
import re
from collections.abc import Iterable

from infra.arguments import parameter_file, variable
from infra.azure_rights import Account
from infra.commands import ROOT, CommandError, Steps, objects, run_json

PARAMETERS = "infra/params/minimal.bicepparam"  # also the default of the workflow
MANAGEMENT = "call-keeper-management"


def read_file(path: str) -> str:
    """Return the content of the file, by its path from the repository's folder."""
    return (ROOT / path).read_text(encoding="utf-8")


def variables_read(path: str) -> set[str]:
    """Return the names of all variables that the file reads."""
    return set(re.findall(r"readEnvironmentVariable\('([A-Z_]+)'", read_file(path)))


def variables_needed(path: str) -> set[str]:
    """Return the variables that the workflow must set. It sets others to "", so defaults in the file do not apply."""
    return set(re.findall(r"readEnvironmentVariable\('([A-Z_]+)', '[^']", read_file(path)))


def makes_locks(path: str) -> bool:
    """True if the file asks for locks."""
    return re.search(r"^param deleteLock = true$", read_file(path), re.MULTILINE) is not None


def check_variables(path: str, names: Iterable[str]) -> None:
    """Refuse variables that the file does not read, because mostly a name is misspelt.

    Raises
    ------
    CommandError
        There are some. The message names them, and those that the file reads.
    """
    known = variables_read(path)
    if unread := sorted(set(names) - known):
        raise CommandError(f"{path} does not read {', '.join(unread)}. It reads {', '.join(sorted(known))}")


def add_management_registration(steps: Steps, account: Account, path: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the variables with the app registration of management, if the file reads it.

    If the variables name none, an existing registration is used, or one is created.

    Raises
    ------
    CommandError
        The directory refuses to create one, or has several with its name.
    """
    if "MANAGEMENT_APP_ID" not in variables_read(path):
        return variables
    app = variables.get("MANAGEMENT_APP_ID") or _find_or_create_registration(steps)
    return {"MANAGEMENT_TENANT_ID": account.tenant} | variables | {"MANAGEMENT_APP_ID": app}


def _find_or_create_registration(steps: Steps) -> str:
    listed = objects(run_json("az", "ad", "app", "list", "--display-name", MANAGEMENT, "--output", "json"))
    existing = [
        str(app["appId"]) for app in listed if app.get("displayName") == MANAGEMENT
    ]  # az also finds longer names
    if len(existing) > 1:
        raise CommandError(
            f"{len(existing)} app registrations are named {MANAGEMENT}: choose one by --variable MANAGEMENT_APP_ID=…"
        )
    if existing:
        steps.report_existing(f"app registration {MANAGEMENT}")
        return existing[0]
    command = ("az", "ad", "app", "create", "--display-name", MANAGEMENT, "--sign-in-audience", "AzureADMyOrg")
    version = ("--requested-access-token-version", "2", "--output", "json")
    try:
        created = steps.change(f"app registration {MANAGEMENT}", *command, *version)
    except CommandError as error:
        raise CommandError(f"{error}. To use an existing one: --variable MANAGEMENT_APP_ID=…") from error
    return str(created.get("appId") or f"<client id of {MANAGEMENT}>")


def add_parameter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--parameters` and `--variable`, which choose a parameter file and set the variables that it reads."""
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
        help="a variable that the parameter file reads, such as ALERT_EMAIL=…; can be repeated",
    )
