"""A function app in Azure, read by the signed-in `az`: addresses, functions, names of settings, key, SCM token.

It uses only Python's standard library and `az`, because the job that may deploy installs no packages.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from release.waiting import Clock, print_progress

API_VERSION = "2024-11-01"  # Microsoft.Web: the first version with all of Flex Consumption
MAX_RETRY_TIME = timedelta(minutes=1)
RETRY_PAUSE = timedelta(seconds=5)
MAX_COMMAND_TIME = timedelta(minutes=2)  # az itself retries


class AzureError(Exception):
    """Azure or az failed. The message says what to do."""


class PermanentError(AzureError):
    """A repetition would fail too: az is missing, too old, or not signed in."""


@dataclass(frozen=True, slots=True)
class App:
    """A function app: its name, its resource group, and the root addresses of its site and of its SCM site."""

    name: str
    group: str
    address: str
    scm: str

    def function_names(self) -> list[str]:
        """Return the names of the functions that the platform has found, sorted; none while it still searches.

        Raises
        ------
        AzureError
            Azure asks the running host for them, which does not answer for moments after a deployment.
        """
        return sorted(_az_rest("get", f"{_path(self.name, self.group)}/functions", "value[].properties.name"))

    def setting_names(self) -> list[str]:
        """Return the names of its settings. The query makes `az` leave out the values."""
        return _az_rest("post", f"{_path(self.name, self.group)}/config/appsettings/list", "keys(properties)")

    def function_key(self) -> str:
        """Return the key that opens every function. Azure asks the running host for it, so the host must be up.

        Raises
        ------
        AzureError
            The host does not answer, or has no such key.
        """
        path = f"{_path(self.name, self.group)}/host/default/listkeys"
        match _az_rest("post", path, "[functionKeys.default]"):
            case [key]:
                return key
            case _:
                raise AzureError(f"{self.name} has no function key named default")


def retry(read: Callable[[], list[str]], clock: Clock) -> list[str]:
    """Read something from Azure, and repeat a failure for `MAX_RETRY_TIME`.

    Azure Resource Manager sometimes fails right after a deployment.

    Raises
    ------
    AzureError
        The last failure, or the first one that is permanent.
    """
    began = clock.now()
    while True:
        try:
            return read()
        except PermanentError:
            raise
        except AzureError as error:
            if clock.since(began) >= MAX_RETRY_TIME:
                raise
            print_progress(f"next attempt in {RETRY_PAUSE.seconds} s: {error}")
        clock.wait(RETRY_PAUSE)


def find_app(name: str, group: str, clock: Clock | None = None) -> App:
    """Read the addresses of an app.

    Raises
    ------
    AzureError
        There is no such app, az is not signed in, or the account may not read it.
    """
    # The host name of type Repository is the SCM site, which accepts deployments.
    scm = "hostNameSslStates[?hostType=='Repository'].name | [0]"
    query = f"[properties.defaultHostName, properties.{scm}]"
    match retry(lambda: _az_rest("get", _path(name, group), query), clock or Clock()):
        case [address, repository]:
            return App(name, group, f"https://{address}", f"https://{repository}")
        case _:
            raise AzureError(f"{name} has no SCM site: is it a function app?")


def get_token(clock: Clock | None = None) -> str:
    """Return an access token of Azure Resource Manager. An SCM site accepts it too. It expires after about an hour.

    Raises
    ------
    AzureError
        az is not signed in.
    """
    command = ("account", "get-access-token", "--query", "[accessToken]")
    (found,) = retry(lambda: _strings(_az(*command)), clock or Clock())
    return found


def _path(name: str, group: str) -> str:
    return f"/subscriptions/{{subscriptionId}}/resourceGroups/{group}/providers/Microsoft.Web/sites/{name}"


def _az_rest(method: str, path: str, query: str) -> list[str]:
    url = f"{path}?api-version={API_VERSION}"
    return _strings(_az("rest", "--method", method, "--url", url, "--query", query))


def _az(*arguments: str) -> str:
    az = shutil.which("az")
    if az is None:
        raise PermanentError("az is not installed: see https://aka.ms/azure-cli")
    command, limit = [az, *arguments, "--output", "json"], MAX_COMMAND_TIME.total_seconds()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603 - az
    except subprocess.TimeoutExpired as error:
        raise AzureError(f"az {arguments[0]} did not answer within {limit:g} s") from error
    if done.returncode:
        reason = " ".join(done.stderr.split())
        # "Not found" is not permanent: Azure may not show a resource yet that was created a moment ago.
        kind = PermanentError if "az login" in reason else AzureError
        raise kind(f"az {arguments[0]} failed: {reason or 'it printed no reason'}")
    return done.stdout


def _strings(answer: str) -> list[str]:
    try:
        found: object = json.loads(answer or "null")
    except ValueError:
        raise PermanentError("az printed something that is not JSON: update the Azure CLI") from None
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
