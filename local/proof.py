"""The proof that what was deployed runs: its settings, its functions, its health, its function keys."""

import http.client
from collections.abc import Sequence
from datetime import timedelta

from local import flex
from local.azure import App, AzureError
from local.site import Answer, Clock, refusal, request, tell

POLL = timedelta(seconds=5)
STEADY = timedelta(minutes=1)  # less would take the last minute of the old code for the new one's first
MAX_SYNC = timedelta(minutes=5)  # until the platform has found the functions of new code
MAX_START = timedelta(minutes=10)  # until health must have been well for long enough
MAX_KEYS = timedelta(minutes=5)  # until the host takes its own key; a new role assignment takes minutes to count
KEYED_ROUTE = "/api/termination-codes"  # it asks for the function key, and reads no storage

_HEALTH = {404: "404: no such function; was the code found?"}
_KEYS_UNREADABLE = (
    "401 without a body: the host refuses its own function key, so it cannot read its keys. Give the app's identity "
    "Storage Blob Data Owner on the account that AzureWebJobsStorage__accountName names, compare "
    "AzureWebJobsStorage__credential and __clientId with infra/, and restart the app "
    "(Azure/azure-functions-host#11796)"
)


def prove(app: App, expected: Sequence[str], steady: timedelta = STEADY, clock: Clock | None = None) -> None:
    """Wait until an app runs as it was deployed.

    No setting breaks it, its functions are the expected ones, its health was well for `steady` on end, and the host
    takes its own function key.

    Raises
    ------
    AzureError
        It does not run so. The message says what to do.
    """
    clock = clock or Clock()
    check_settings(app)
    _await_functions(app, sorted(expected), clock)
    _await_health(f"{app.address}/api/health", steady, clock)
    _await_keys(app, clock)


def check_settings(app: App) -> None:
    """Look at the names of the app's settings, never at a value.

    Raises
    ------
    AzureError
        One of them breaks the app.
    """
    names = app.setting_names()
    if breaking := flex.among(names, flex.BREAKING_SETTINGS):
        why = "; ".join(f"{name}: {flex.BREAKING_SETTINGS[name]}" for name in breaking)
        raise AzureError(
            f"{app.name} has a setting that breaks it. {why}. Remove it: az functionapp config appsettings delete "
            f"--resource-group {app.group} --name {app.name} --setting-names {' '.join(breaking)}"
        )
    for name in flex.among(names, flex.REFUSED_SETTINGS):
        tell(f"the setting {name} has no place on Flex Consumption, remove it: {flex.REFUSED_SETTINGS[name]}")


def _await_functions(app: App, expected: list[str], clock: Clock) -> None:
    begun = clock.now()
    while (found := app.functions()) != expected:
        if clock.since(begun) >= MAX_SYNC:
            raise AzureError(_difference(expected, found))
        clock.wait(POLL)
    tell(f"the {len(found)} functions are found")


def _await_health(url: str, steady: timedelta, clock: Clock) -> None:
    """A GET each time: Azure answers a HEAD with 404. One bad answer, and the time begins anew."""
    well_since: float | None = None
    begun, seconds = clock.now(), steady.total_seconds()
    while True:
        answer = request(url, {})
        now = clock.now()
        if answer.status != http.client.OK:
            well_since = None
            tell(f"health: {refusal(answer, _HEALTH)}")
        else:
            well_since = now if well_since is None else well_since
            if now - well_since >= seconds:
                tell(f"health was well for {now - well_since:.0f} s: {refusal(answer)}")
                return
        if clock.since(begun) >= MAX_START + steady:
            raise AzureError(f"{url} was not well for {seconds:g} s on end: {refusal(answer, _HEALTH)}")
        clock.wait(POLL)


def _await_keys(app: App, clock: Clock) -> None:
    """Ask one keyed route with the app's key, which is told to nobody."""
    begun = clock.now()
    while (trouble := _trouble_with_key(app)) is not None:
        if clock.since(begun) >= MAX_KEYS:
            raise AzureError(f"{app.name}: {trouble}")
        clock.wait(POLL)
    tell("the host takes its function key")


def _trouble_with_key(app: App) -> str | None:
    try:
        key = app.function_key()
    except AzureError as error:
        return f"its function keys cannot be listed: {error}"
    answer = request(f"{app.address}{KEYED_ROUTE}", {"x-functions-key": key})
    if _is_the_apps_own(answer):
        return None
    if answer.status == http.client.UNAUTHORIZED and not answer.body.strip():
        return _KEYS_UNREADABLE
    return f"{KEYED_ROUTE} gave no answer of the app's own: {refusal(answer, _HEALTH)}"


def _is_the_apps_own(answer: Answer) -> bool:
    """Tell whether the host let the request through to the app, which may still ask for an Entra token."""
    passed = {http.client.OK, http.client.UNAUTHORIZED, http.client.FORBIDDEN}
    return answer.status in passed and isinstance(answer.parsed, dict)


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    if not found:
        return "0 functions found: the code does not load in Azure; see the log stream for the import error"
    missing, strange = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return (
        f"other functions than expected: missing {', '.join(missing) or 'none'}; strange {', '.join(strange) or 'none'}"
    )
