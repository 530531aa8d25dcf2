"""The proof that the deployed package runs: settings, functions, health and function keys of the app."""

import http.client
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta

from release import flex
from release.azure import App, AzureError, PermanentError, retry
from release.http_requests import Answer, explain, request
from release.waiting import Clock, print_progress

POLL = timedelta(seconds=5)
STEADY_TIME = timedelta(minutes=1)  # for which health must be well; the old code may answer for most of a minute
MAX_FUNCTIONS_WAIT = timedelta(minutes=5)  # until the platform has found the functions of new code
MAX_HEALTH_WAIT = timedelta(minutes=10)  # in addition to the steady time
MAX_KEYS_WAIT = timedelta(minutes=5)  # until the host accepts its own key; a new role assignment takes minutes
KEYED_ROUTE = "/api/termination-codes"  # it needs the function key, and reads no storage
# The app has these only if RELAY_TARGETS is set, and a package of an older version never.
RELAY_FUNCTIONS = frozenset({"relay_queue", "relay_timer"})

_HEALTH = {404: "404: there is no such function; did Azure find the code?"}
_KEYS_UNREADABLE = (
    "401 without a body: the host refuses its own function key, because it cannot read its keys. Remove a setting "
    "named exactly AzureWebJobsStorage if there is one: a deployment can add it (Azure/azure-functions-host#11796). "
    "Give the app's identity Storage Blob Data Owner on the account that AzureWebJobsStorage__accountName names, "
    "compare AzureWebJobsStorage__credential and __clientId with infra/, and restart the app"
)


def prove(
    app: App,
    expected: Sequence[str],
    build: str | None = None,
    steady: timedelta = STEADY_TIME,
    clock: Clock | None = None,
) -> None:
    """Wait until an app runs the package that was deployed.

    Then its functions are the expected ones, the expected build reports good health for `steady` without a break, the
    host accepts its own function key, and no setting breaks the app. Settings are checked first, because that takes
    seconds, and again at the end, because a deployment can add one.

    Parameters
    ----------
    app
        The app.
    expected
        Names of its functions.
    build
        Id of the package. None: the package has no id, as those before decision 0027.
    steady
        How long health must be well without a break.
    clock
        The clock; a test replaces it.

    Raises
    ------
    AzureError
        The app does not run the package. The message says what to do.
    """
    clock = clock or Clock()
    settings = check_settings(app, clock)
    for name in flex.among(settings, flex.REFUSED_SETTINGS):
        print_progress(
            f"the setting {name} has no effect on Flex Consumption, remove it: {flex.REFUSED_SETTINGS[name]}"
        )
    is_relaying = "RELAY_TARGETS" in map(str.upper, settings)
    _await_functions(app, sorted(expected), clock, RELAY_FUNCTIONS if is_relaying else frozenset())
    _await_health(f"{app.address}/api/health", build, steady, clock)
    _await_keys(app, clock)


def check_settings(app: App, clock: Clock) -> list[str]:
    """Return the names of the app's settings. Values are never read.

    Raises
    ------
    AzureError
        One of them breaks the app, or they cannot be listed.
    """
    names = retry(app.setting_names, clock)
    if breaking := flex.among(names, flex.BREAKING_SETTINGS):
        why = "; ".join(f"{name}: {flex.BREAKING_SETTINGS[name]}" for name in breaking)
        raise AzureError(
            f"{app.name} has a setting that breaks it. {why}. Remove it: az functionapp config appsettings delete "
            f"--resource-group {app.group} --name {app.name} --setting-names {' '.join(breaking)}"
        )
    return names


def _await_functions(app: App, expected: list[str], clock: Clock, allowed: AbstractSet[str] = frozenset()) -> None:
    """Wait until the app has the expected functions. It may also have those that are allowed."""

    def find_problem() -> str | None:
        return _difference(expected, [name for name in app.function_names() if name not in allowed])

    if problem := _last_problem("functions", find_problem, MAX_FUNCTIONS_WAIT, clock):
        raise AzureError(f"{app.name}: {problem}")
    print_progress(f"the {len(expected)} functions are found")


def _last_problem(subject: str, find_problem: Callable[[], str | None], limit: timedelta, clock: Clock) -> str | None:
    """Check until there is no problem, or until the limit; then return the last problem.

    A failure of Azure counts as a problem, and the next check may succeed. One failure must not fail a good
    deployment: Azure asks the running host, and answers `BadRequest … (ServiceUnavailable) from host runtime` while
    the host restarts (microsoft/vscode-azurefunctions#1104, #2245).
    """
    began = clock.now()
    while True:
        try:
            problem = find_problem()
        except PermanentError:
            raise
        except AzureError as error:
            problem = f"its {subject} cannot be listed: {error}"
        if problem is None or clock.since(began) >= limit:
            return problem
        clock.wait(POLL)


def _await_health(url: str, build: str | None, steady: timedelta, clock: Clock) -> None:
    """Wait until health is well for `steady`. A bad answer, or one of another build, restarts the time.

    Each request is a GET, because Azure answers a HEAD with 404.
    """
    well_since: float | None = None
    began, seconds = clock.now(), steady.total_seconds()
    while True:
        answer = request(url, {})
        now = clock.now()
        problem = _health_problem(answer, build)
        if problem is not None:
            well_since = None
            print_progress(f"health: {problem}")
        else:
            well_since = now if well_since is None else well_since
            if now - well_since >= seconds:
                print_progress(f"health was well for {now - well_since:.0f} s: {explain(answer)}")
                return
        if clock.since(began) >= MAX_HEALTH_WAIT + steady:
            raise AzureError(f"{url} was not well for {seconds:g} s without a break: {problem or explain(answer)}")
        clock.wait(POLL)


def _health_problem(answer: Answer, build: str | None) -> str | None:
    """Return what is wrong, or None. Until the new code is in place, the old code answers and may be healthy."""
    if answer.status != http.client.OK:
        return explain(answer, _HEALTH)
    found = answer.parsed.get("build") if isinstance(answer.parsed, dict) else None
    if found == build:
        return None
    return f"another build answers: {_named(found)}, and {_named(build)} was deployed; perhaps that is not in place yet"


def _named(build: object) -> str:
    return "one without an id" if build is None else str(build)[:64]


def _await_keys(app: App, clock: Clock) -> None:
    """Wait until the host accepts the app's key at one route. The key is never printed.

    Then settings are checked again: a connection string that the deployment added makes keys unreadable, but a host
    that started before it does not fail yet.
    """
    problem = _last_problem("function keys", lambda: _key_problem(app), MAX_KEYS_WAIT, clock)
    check_settings(app, clock)
    if problem:
        raise AzureError(f"{app.name}: {problem}")
    print_progress("the host accepts its function key")


def _key_problem(app: App) -> str | None:
    answer = request(f"{app.address}{KEYED_ROUTE}", {"x-functions-key": app.function_key()})
    if _is_from_app(answer):
        return None
    if answer.status == http.client.UNAUTHORIZED and not answer.body.strip():
        return _KEYS_UNREADABLE
    return f"{KEYED_ROUTE} was not answered by the app: {explain(answer, _HEALTH)}"


def _is_from_app(answer: Answer) -> bool:
    """True if the host passed the request on to the app, which may still require an Entra token."""
    passed = {http.client.OK, http.client.UNAUTHORIZED, http.client.FORBIDDEN}
    return answer.status in passed and isinstance(answer.parsed, dict)


def _difference(expected: Sequence[str], found: Sequence[str]) -> str | None:
    if found == expected:
        return None
    if not found:
        return "0 functions found: the code does not load in Azure; see the log stream for the import error"
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return f"other functions than expected: missing {', '.join(missing) or 'none'}; extra {', '.join(extra) or 'none'}"
