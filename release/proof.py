"""The proof that what was deployed runs: its settings, its functions, its health, its function keys."""

import http.client
from collections.abc import Callable, Sequence
from datetime import timedelta

from release import flex
from release.azure import App, AzureError, LastingError, retried
from release.site import Answer, Clock, refusal, request, tell

POLL = timedelta(seconds=5)
STEADY = timedelta(minutes=1)  # less would take the last minute of the old code for the new one's first
MAX_SYNC = timedelta(minutes=5)  # until the platform has found the functions of new code
MAX_START = timedelta(minutes=10)  # until health must have been well for long enough
MAX_KEYS = timedelta(minutes=5)  # until the host takes its own key; a new role assignment takes minutes to count
KEYED_ROUTE = "/api/termination-codes"  # it asks for the function key, and reads no storage

_HEALTH = {404: "404: no such function; was the code found?"}
_KEYS_UNREADABLE = (
    "401 without a body: the host refuses its own function key, so it cannot read its keys. Remove a setting named "
    "exactly AzureWebJobsStorage if there is one: a deployment can add it (Azure/azure-functions-host#11796). Give "
    "the app's identity Storage Blob Data Owner on the account that AzureWebJobsStorage__accountName names, compare "
    "AzureWebJobsStorage__credential and __clientId with infra/, and restart the app"
)


def prove(
    app: App,
    expected: Sequence[str],
    build: str | None = None,
    steady: timedelta = STEADY,
    clock: Clock | None = None,
) -> None:
    """Wait until an app runs as it was deployed.

    Its functions are the expected ones, its health was well for `steady` on end, told by the expected build (None: by
    one without an id, as packages had none before). The host takes its own function key,
    and no setting breaks it. Settings are looked at first, before minutes are spent, and again in the end, as a
    deployment can add one.

    Raises
    ------
    AzureError
        It does not run so. The message says what to do.
    """
    clock = clock or Clock()
    for name in flex.among(check_settings(app, clock), flex.REFUSED_SETTINGS):
        tell(f"the setting {name} has no place on Flex Consumption, remove it: {flex.REFUSED_SETTINGS[name]}")
    _await_functions(app, sorted(expected), clock)
    _await_health(f"{app.address}/api/health", build, steady, clock)
    _await_keys(app, clock)


def check_settings(app: App, clock: Clock) -> list[str]:
    """Look at the names of the app's settings, never at a value, and return them.

    Raises
    ------
    AzureError
        One of them breaks the app, or they cannot be listed.
    """
    names = retried(app.setting_names, clock)
    if breaking := flex.among(names, flex.BREAKING_SETTINGS):
        why = "; ".join(f"{name}: {flex.BREAKING_SETTINGS[name]}" for name in breaking)
        raise AzureError(
            f"{app.name} has a setting that breaks it. {why}. Remove it: az functionapp config appsettings delete "
            f"--resource-group {app.group} --name {app.name} --setting-names {' '.join(breaking)}"
        )
    return names


def _await_functions(app: App, expected: list[str], clock: Clock) -> None:
    if trouble := _last_trouble("functions", lambda: _difference(expected, app.functions()), MAX_SYNC, clock):
        raise AzureError(f"{app.name}: {trouble}")
    tell(f"the {len(expected)} functions are found")


def _last_trouble(asked: str, look: Callable[[], str | None], limit: timedelta, clock: Clock) -> str | None:
    """Look until there is no trouble, or until the limit; then return the trouble.

    A question that Azure did not answer is trouble too, as the next one may be answered. One failure must not undo a
    good deployment: Azure asks the running host, and says `BadRequest … (ServiceUnavailable) from host runtime` while
    that starts anew (microsoft/vscode-azurefunctions#1104, #2245).
    """
    begun = clock.now()
    while True:
        try:
            trouble = look()
        except LastingError:
            raise
        except AzureError as error:
            trouble = f"its {asked} cannot be listed: {error}"
        if trouble is None or clock.since(begun) >= limit:
            return trouble
        clock.wait(POLL)


def _await_health(url: str, build: str | None, steady: timedelta, clock: Clock) -> None:
    """A GET each time: Azure answers a HEAD with 404. One bad answer, or one of another build, begins the time anew."""
    well_since: float | None = None
    begun, seconds = clock.now(), steady.total_seconds()
    while True:
        answer = request(url, {})
        now = clock.now()
        trouble = _trouble_with_health(answer, build)
        if trouble is not None:
            well_since = None
            tell(f"health: {trouble}")
        else:
            well_since = now if well_since is None else well_since
            if now - well_since >= seconds:
                tell(f"health was well for {now - well_since:.0f} s: {refusal(answer)}")
                return
        if clock.since(begun) >= MAX_START + steady:
            raise AzureError(f"{url} was not well for {seconds:g} s on end: {trouble or refusal(answer)}")
        clock.wait(POLL)


def _trouble_with_health(answer: Answer, build: str | None) -> str | None:
    """Tell what is wrong. The code that ran before answers too, and just as well, until the new one is in place."""
    if answer.status != http.client.OK:
        return refusal(answer, _HEALTH)
    found = answer.parsed.get("build") if isinstance(answer.parsed, dict) else None
    if found == build:
        return None
    return f"another build answers: {_named(found)}, and {_named(build)} was deployed; is that not in place yet?"


def _named(build: object) -> str:
    return "one without an id" if build is None else str(build)[:64]


def _await_keys(app: App, clock: Clock) -> None:
    """Ask one keyed route with the app's key, which is told to nobody.

    Then settings are looked at again: a connection string that the deployment added is the cause of unreadable keys,
    and a host that started before has not met it yet.
    """
    trouble = _last_trouble("function keys", lambda: _trouble_with_key(app), MAX_KEYS, clock)
    check_settings(app, clock)
    if trouble:
        raise AzureError(f"{app.name}: {trouble}")
    tell("the host takes its function key")


def _trouble_with_key(app: App) -> str | None:
    answer = request(f"{app.address}{KEYED_ROUTE}", {"x-functions-key": app.function_key()})
    if _is_the_apps_own(answer):
        return None
    if answer.status == http.client.UNAUTHORIZED and not answer.body.strip():
        return _KEYS_UNREADABLE
    return f"{KEYED_ROUTE} gave no answer of the app's own: {refusal(answer, _HEALTH)}"


def _is_the_apps_own(answer: Answer) -> bool:
    """Tell whether the host let the request through to the app, which may still ask for an Entra token."""
    passed = {http.client.OK, http.client.UNAUTHORIZED, http.client.FORBIDDEN}
    return answer.status in passed and isinstance(answer.parsed, dict)


def _difference(expected: Sequence[str], found: Sequence[str]) -> str | None:
    if found == expected:
        return None
    if not found:
        return "0 functions found: the code does not load in Azure; see the log stream for the import error"
    missing, strange = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return (
        f"other functions than expected: missing {', '.join(missing) or 'none'}; strange {', '.join(strange) or 'none'}"
    )
