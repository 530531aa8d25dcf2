"""A function app in Azure, by the `az` that is logged in: addresses, functions, settings' names, key, SCM token.

It uses Python's own library and `az` alone: the job that may deploy installs nothing from an index.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass

API_VERSION = "2024-11-01"  # Microsoft.Web: the first that knows all of Flex Consumption
_TIMEOUT = 120.0  # seconds; az itself retries


class AzureError(Exception):
    """Azure, or az, did not do what it was asked. The message says what to do."""


@dataclass(frozen=True, slots=True)
class App:
    """A function app by its name in a resource group; `address` and `scm` are the roots of its two sites."""

    name: str
    group: str
    address: str
    scm: str

    def functions(self) -> list[str]:
        """Tell the names of the functions that the platform has found, sorted; none while it still looks."""
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


def find(name: str, group: str) -> App:
    """Look up an app.

    Raises
    ------
    AzureError
        There is none, nobody is logged in, or the login may not read it.
    """
    # The site that takes deployments is the host name of type Repository; the other is the default one.
    scm = "hostNameSslStates[?hostType=='Repository'].name | [0]"
    answer = _az_rest("get", _path(name, group), f"[properties.defaultHostName, properties.{scm}]")
    match answer:
        case [address, repository]:
            return App(name, group, f"https://{address}", f"https://{repository}")
        case _:
            raise AzureError(f"{name} has no SCM site: is it a function app?")


def token() -> str:
    """Get a token of Azure Resource Manager, which an SCM site takes too; it lives about an hour."""
    (found,) = _strings(_az("account", "get-access-token", "--query", "[accessToken]"))
    return found


def _path(name: str, group: str) -> str:
    return f"/subscriptions/{{subscriptionId}}/resourceGroups/{group}/providers/Microsoft.Web/sites/{name}"


def _az_rest(method: str, path: str, query: str) -> list[str]:
    url = f"{path}?api-version={API_VERSION}"
    return _strings(_az("rest", "--method", method, "--url", url, "--query", query))


def _az(*arguments: str) -> str:
    az = shutil.which("az")
    if az is None:
        raise AzureError("az is not installed: see https://aka.ms/azure-cli")
    command = [az, *arguments, "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603 - az
    except subprocess.TimeoutExpired as error:
        raise AzureError(f"az {arguments[0]} did not answer within {_TIMEOUT:g} s") from error
    if done.returncode:
        raise AzureError(f"az {arguments[0]} failed: {' '.join(done.stderr.split()) or 'it did not say why'}")
    return done.stdout


def _strings(answer: str) -> list[str]:
    try:
        found: object = json.loads(answer or "null")
    except ValueError:
        raise AzureError("az answered something that is no JSON: update the Azure CLI") from None
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
