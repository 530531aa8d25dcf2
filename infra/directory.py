"""Microsoft Graph's directory, as the signed-in account may read and write it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

type Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where a cloud's directory is, and whose tokens it takes as assertions of a federated identity."""

    graph: str
    authority: str
    audience: str


# Graph: "National cloud deployments" page; Entra: "Configure an app to trust a managed identity" page.
CLOUDS = {
    "global": Cloud("https://graph.microsoft.com", "https://login.microsoftonline.com", "api://AzureADTokenExchange"),
    "usgov-l4": Cloud(
        "https://graph.microsoft.us", "https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"
    ),
    "usgov-l5": Cloud(
        "https://dod-graph.microsoft.us", "https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"
    ),
}
_EXISTS = "already exists"  # Graph's words where a list was read too early to show what was just made


class Refused(Exception):
    """What went wrong, in one line."""


class Directory:
    """Microsoft Graph's directory. With `dry_run` it reads, and tells what it would write."""

    def __init__(self, client: httpx.Client, *, dry_run: bool) -> None:
        self._client = client
        self._dry_run = dry_run

    def find(self, path: str, what: str) -> Json | None:
        """An object, or None if there is none."""
        answer = self._send("GET", path, None, what)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _object(answer, what)

    def get(self, path: str, what: str) -> Json:
        """An object that must be there."""
        found = self.find(path, what)
        if found is None:
            raise Refused(f"{what}: the directory has none. Is the id right, and this the right tenant and cloud?")
        return found

    def every(self, path: str, what: str) -> Iterator[Json]:
        """All items of a list, page by page."""
        address: object = path
        while isinstance(address, str):
            page = self.get(address, what)
            yield from objects(page.get("value"))
            address = page.get("@odata.nextLink")

    def write(self, method: str, path: str, body: Json, what: str) -> Json:
        """Change something, and tell it."""
        if self._dry_run:
            sys.stdout.write(f"would: {what}\n")
            return {}
        answer = self._send(method, path, body, what)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise Refused(f"{what}: {_reason(answer)}")
        if not answer.is_success:
            sys.stdout.write(f"there: {what}\n")
            return {}
        sys.stdout.write(f"done: {what}\n")
        return _object(answer, what) if answer.content else {}

    def _send(self, method: str, path: str, body: Json | None, what: str) -> httpx.Response:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Refused(f"{what}: Graph could not be reached ({type(error).__name__})") from None
        there_already = method == "POST" and _EXISTS in answer.text
        if answer.is_success or answer.status_code == httpx.codes.NOT_FOUND or there_already:
            return answer
        hint = " This account may not do that." if answer.status_code == httpx.codes.FORBIDDEN else ""
        raise Refused(f"{what}: {_reason(answer)}{hint}")


def _object(answer: httpx.Response, what: str) -> Json:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(f"{what}: the answer is no JSON object (HTTP {answer.status_code})")
    return found


def objects(value: object) -> Iterator[Json]:
    """The objects of a JSON list; nothing where there is no list."""
    yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _reason(answer: httpx.Response) -> str:
    """Graph's own words, in one line."""
    try:
        error = answer.json()["error"]
        words = f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        words = answer.reason_phrase
    return f"HTTP {answer.status_code} {' '.join(words.split())}"


def token(cloud: Cloud) -> str:
    """A token for Graph, by `az` where it is installed, else by azure-identity."""
    az = shutil.which("az")
    if az is None:
        return _token_by_identity(cloud)
    command = [az, "account", "get-access-token", "--resource", cloud.graph, "--output", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed words, no shell)
    try:
        return str(json.loads(run.stdout)["accessToken"])
    except (ValueError, KeyError, TypeError):
        words = next(iter(run.stderr.strip().splitlines()), "no answer")
        raise Refused(f"token: az gave none ({words}). Run az login, in the right cloud") from None


def _token_by_identity(cloud: Cloud) -> str:
    from azure.identity import CredentialUnavailableError, DefaultAzureCredential  # noqa: PLC0415 (slow to import)

    try:
        with DefaultAzureCredential(authority=cloud.authority) as credential:
            return credential.get_token(f"{cloud.graph}/.default").token
    except Exception as error:  # noqa: BLE001 (whatever azure-identity lets out: there is no token)
        kind = "nobody is signed in" if isinstance(error, CredentialUnavailableError) else type(error).__name__
        raise Refused(f"token: none by azure-identity ({kind}). Install az and run az login") from None
