"""Checks of the settings: missing, wrong, misspelt, copied from the example, or of two clouds."""

import difflib
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from doctor.check import check, note
from doctor.checks_schedule import NAME as SCHEDULE
from doctor.finding import Fault, Finding, Severity
from doctor.target import KEY_VAULT_REFERENCE, Target
from shared.config.clouds import CLOUDS
from shared.config.settings import Settings, load_settings, setting_name
from shared.errors import SettingsInvalid

MISSING = Fault(
    "setting-missing",
    "A setting that the app needs is missing or empty.",
    "Set it: docs/settings.md explains it.",
)
WRONG = Fault(
    "setting-wrong", "The app rejects the value of a setting.", "Correct it: docs/settings.md lists the allowed values."
)
MISSPELT = Fault(
    "setting-misspelt",
    "The app does not read a setting whose name is similar to one that it reads.",
    "Correct its name, or remove it.",
    Severity.WARN,
)
EXAMPLE = Fault(
    "setting-example",
    "A setting still has the value of local.settings.example.json.",
    "Set it to the bot's own value.",
)
CHINA = Fault(
    "cloud-china",
    "GRAPH_CLOUD is china. The cloud operated by 21Vianet has no calls API, so no keepAlive.",
    "Use global, usgov-l4 or usgov-l5, the cloud of the bot's calls.",
)
MIXED = Fault(
    "cloud-mismatch",
    "The tokens are issued in one cloud and Graph is in another, where they are not valid.",
    "Set GRAPH_CLOUD and remove GRAPH_BASE_URL and AZURE_AUTHORITY_HOST: their defaults match it.",
)

_NAMES = {setting_name(field) for field in Settings.model_fields}
_PLATFORM_SETTING = re.compile(r"AzureWebJobs|APPLICATIONINSIGHTS_|AzureFunctions|FUNCTIONS_|WEBSITE_|PYTHON|OTEL_")
_MIN_SIMILARITY = 0.87  # difflib ratio: about one letter in ten differs
_PLACEHOLDERS = {
    "GRAPH_APP_ID": re.compile(r"[0-]+"),
    "GRAPH_CLIENT_SECRET": re.compile(r"the bot's client secret;.*"),
}
_LOGINS = {
    "login.microsoftonline.com": {"global"},
    "login.microsoftonline.us": {"usgov-l4", "usgov-l5"},
    "login.chinacloudapi.cn": {"china"},
    "login.partner.microsoftonline.cn": {"china"},
}
_GRAPHS = {str(urlsplit(cloud.graph_root).hostname): name for name, cloud in CLOUDS.items()} | {
    "microsoftgraph.chinacloudapi.cn": "china"
}


@check("settings", "Are all settings present and valid?", MISSING, WRONG, MISSPELT, EXAMPLE, CHINA)
async def settings(target: Target) -> AsyncIterator[Finding]:
    """Report each fault that /api/health would report, misspelt names, and values of the example."""
    for finding in [*_faults(target), *_misspelt(target), *_examples(target)]:
        yield finding
    count = sum(target.value(name) is not None for name in _NAMES)
    yield note("settings", f"{count} of {len(_NAMES)} are set; the others have their defaults")


@check("cloud", "Do Graph and its tokens belong to one cloud?", MIXED)
async def cloud(target: Target) -> AsyncIterator[Finding]:
    """Compare the addresses of Graph and the authority, if both are known; a simulator's are not."""
    host = urlsplit(target.settings.graph_root).hostname or ""
    login = urlsplit(target.settings.authority).hostname or ""
    graph, logins = _GRAPHS.get(host), _LOGINS.get(login)
    if graph and logins and graph not in logins:
        yield MIXED.found(f"tokens are issued by {login}, and Graph is {host}")


def _faults(target: Target) -> list[Finding]:
    try:
        faults = load_settings(target.readable).relay_faults
    except SettingsInvalid as error:
        faults = error.faults
    return [_fault(target, name, problem) for name, problem in faults if name != SCHEDULE]


def _fault(target: Target, name: str, problem: str) -> Finding:
    if name == "GRAPH_CLOUD" and problem.startswith("china"):
        return CHINA.found("GRAPH_CLOUD is china")
    if (target.value(name) or "").startswith(KEY_VAULT_REFERENCE):
        return WRONG.found(f"{name} is a Key Vault reference, which az does not resolve, so the doctor cannot check it")
    return (MISSING if "is missing" in problem else WRONG).found(f"{name} {problem}")


def _misspelt(target: Target) -> list[Finding]:
    known = {_normalized(name): name for name in _NAMES}
    read = {name.lower() for name in _NAMES}
    found = []
    for name in target.raw:
        if name.lower() in read or _PLATFORM_SETTING.match(name):
            continue
        similar = difflib.get_close_matches(_normalized(name), known, n=1, cutoff=_MIN_SIMILARITY)
        if similar:
            found.append(MISSPELT.found(f"the app does not read {name}; did you mean {known[similar[0]]}?"))
    return found


def _normalized(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _examples(target: Target) -> list[Finding]:
    values = ((name, target.value(name) or "") for name in _PLACEHOLDERS)
    return [
        EXAMPLE.found(f"{name} has the value of the example")
        for name, value in values
        if _PLACEHOLDERS[name].fullmatch(value)
    ]
