"""A function app in Azure, by the `az` that is logged in: addresses, functions, settings' names, key, SCM token.

It uses Python's own library and `az` alone: the job that may deploy installs nothing from an index.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from release.site import Clock, tell

API_VERSION = "2024-11-01"  # Microsoft.Web: the first that knows all of Flex Consumption
MAX_HICCUP = timedelta(minutes=1)  # for which a question that failed is asked again
PAUSE = timedelta(seconds=5)  # between two such questions
_TIMEOUT = 120.0  # seconds; az itself retries


class AzureError(Exception):
    """Azure, or az, did not do what it was asked. The message says what to do."""


class LastingError(AzureError):
    """It would fail again in the same way: az is missing or too old, or nobody is logged in."""


@dataclass(frozen=True, slots=True)
class App:
    """A function app by its name in a resource group; `address` and `scm` are the roots of its two sites."""

    name: str
    group: str
    address: str
    scm: str

    def functions(self) -> list[str]:
        """Tell the names of the functions that the platform has found, sorted; none while it still looks.

        Raises
        ------
        AzureError
            Azure asks the running host for them, which is away for moments after a deployment.
        """
        return sorted(_az_rest("get", f"{_path(self.name, self.group)}/functions", "value[].properties.name"))

    def setting_names(self) -> list[str]:
        """Tell the names of its settings; `az` leaves the values out."""
        return _az_rest("post", f"{_path(self.name, self.group)}/config/appsettings/list", "keys(properties)")

    def function_key(self) -> str:
        """Get the key that opens every function. The running host tells it, so it must be up.

        Raises
        ------
        AzureError
            The host cannot be asked, or has no such key.
        """
        path = f"{_path(self.name, self.group)}/host/default/listkeys"
        match _az_rest("post", path, "[functionKeys.default]"):
            case [key]:
                return key
            case _:
                raise AzureError(f"{self.name} has no function key named default")


def retried(ask: Callable[[], list[str]], clock: Clock) -> list[str]:
    """Ask until an answer comes, for a minute: right after a deployment Azure Resource Manager fails now and then.

    Raises
    ------
    AzureError
        The failure of the last time, or one that would last.
    """
    begun = clock.now()
    while True:
        try:
            return ask()
        except LastingError:
            raise
        except AzureError as error:
            if clock.since(begun) >= MAX_HICCUP:
                raise
            tell(f"asked again in {PAUSE.seconds} s: {error}")
        clock.wait(PAUSE)


def find(name: str, group: str, clock: Clock | None = None) -> App:
    """Look up an app.

    Raises
    ------
    AzureError
        There is none, nobody is logged in, or the login may not read it.
    """
    # The site that takes deployments is the host name of type Repository; the other is the default one.
    scm = "hostNameSslStates[?hostType=='Repository'].name | [0]"
    query = f"[properties.defaultHostName, properties.{scm}]"
    match retried(lambda: _az_rest("get", _path(name, group), query), clock or Clock()):
        case [address, repository]:
            return App(name, group, f"https://{address}", f"https://{repository}")
        case _:
            raise AzureError(f"{name} has no SCM site: is it a function app?")


def token(clock: Clock | None = None) -> str:
    """Get a token of Azure Resource Manager, which an SCM site takes too; it lives about an hour.

    Raises
    ------
    AzureError
        Nobody is logged in.
    """
    command = ("account", "get-access-token", "--query", "[accessToken]")
    (found,) = retried(lambda: _strings(_az(*command)), clock or Clock())
    return found


def _path(name: str, group: str) -> str:
    return f"/subscriptions/{{subscriptionId}}/resourceGroups/{group}/providers/Microsoft.Web/sites/{name}"


def _az_rest(method: str, path: str, query: str) -> list[str]:
    url = f"{path}?api-version={API_VERSION}"
    return _strings(_az("rest", "--method", method, "--url", url, "--query", query))


def _az(*arguments: str) -> str:
    az = shutil.which("az")
    if az is None:
        raise LastingError("az is not installed: see https://aka.ms/azure-cli")
    command = [az, *arguments, "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603 - az
    except subprocess.TimeoutExpired as error:
        raise AzureError(f"az {arguments[0]} did not answer within {_TIMEOUT:g} s") from error
    if done.returncode:
        said = " ".join(done.stderr.split())
        kind = LastingError if "az login" in said else AzureError  # a resource made just now may be unknown at first
        raise kind(f"az {arguments[0]} failed: {said or 'it did not say why'}")
    return done.stdout


def _strings(answer: str) -> list[str]:
    try:
        found: object = json.loads(answer or "null")
    except ValueError:
        raise LastingError("az answered something that is no JSON: update the Azure CLI") from None
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
