"""Settings: missing, wrong, misspelt, left as in the example, or of two clouds at once."""

import difflib
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from doctor.check import check, fine
from doctor.checks_schedule import NAME as SCHEDULE
from doctor.finding import Fault, Finding, Mark
from doctor.patient import NAMED_OTHERWISE, Patient
from shared.config.clouds import CLOUDS
from shared.config.settings import Settings, load_settings, setting_name
from shared.errors import SettingsInvalid

MISSING = Fault(
    "setting-missing",
    "A setting that the app needs is not there, or is empty.",
    "Set it; docs/settings.md says what it means.",
)
WRONG = Fault(
    "setting-wrong", "A setting has a value that the app refuses.", "Correct it; docs/settings.md says what it may be."
)
MISSPELT = Fault(
    "setting-misspelt",
    "A setting that nobody reads has nearly the name of one that is read.",
    "Give it that name, or remove it.",
    Mark.WARN,
)
EXAMPLE = Fault(
    "setting-example",
    "A setting still has the value of local.settings.example.json.",
    "Put the bot's own value there.",
)
CHINA = Fault(
    "cloud-china",
    "GRAPH_CLOUD is china: Graph's calls API, with keepAlive, does not exist in the cloud operated by 21Vianet.",
    "Use global, usgov-l4 or usgov-l5: the cloud that the bot's calls are in.",
)
MIXED = Fault(
    "cloud-mismatch",
    "Tokens come from one cloud and are for the Graph of another: they are never valid there.",
    "Set GRAPH_CLOUD, and remove GRAPH_BASE_URL and AZURE_AUTHORITY_HOST: their defaults belong together.",
)

_NAMES = {setting_name(field) for field in Settings.model_fields}
_OF_THE_PLATFORM = re.compile(r"AzureWebJobs|APPLICATIONINSIGHTS_|AzureFunctions|FUNCTIONS_|WEBSITE_|PYTHON|OTEL_")
_ALIKE = 0.87  # of difflib: one letter in ten is off
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


@check("settings", "Are all settings there and right?", MISSING, WRONG, MISSPELT, EXAMPLE, CHINA)
async def settings(patient: Patient) -> AsyncIterator[Finding]:
    """Each fault that the app itself would name in /api/health, and names that are nearly right."""
    for finding in [*_faults(patient), *_misspelt(patient), *_examples(patient)]:
        yield finding
    count = sum(patient.value(name) is not None for name in _NAMES)
    yield fine("settings", f"{count} of {len(_NAMES)} are set, the others have their defaults")


@check("cloud", "Are Graph and its tokens of one cloud?", MIXED)
async def cloud(patient: Patient) -> AsyncIterator[Finding]:
    """Compares the addresses that are known; a simulator's are not."""
    host = urlsplit(patient.settings.graph_root).hostname or ""
    login = urlsplit(patient.settings.authority).hostname or ""
    graph, logins = _GRAPHS.get(host), _LOGINS.get(login)
    if graph and logins and graph not in logins:
        yield MIXED.found(f"tokens are issued by {login}, and Graph is {host}")


def _faults(patient: Patient) -> list[Finding]:
    try:
        load_settings(patient.raw)
    except SettingsInvalid as error:
        return [_fault(patient, name, what) for name, what in error.faults if name != SCHEDULE]
    return []


def _fault(patient: Patient, name: str, what: str) -> Finding:
    if name == "GRAPH_CLOUD" and what.startswith("china"):
        return CHINA.found("GRAPH_CLOUD is china")
    if (patient.value(name) or "").startswith(NAMED_OTHERWISE):
        return WRONG.found(f"{name} is a Key Vault reference, which az shows unresolved: the doctor cannot judge it")
    return (MISSING if "is missing" in what else WRONG).found(f"{name} {what}")


def _misspelt(patient: Patient) -> list[Finding]:
    known = {_plain(name): name for name in _NAMES}
    read = {name.lower() for name in _NAMES}
    found = []
    for name in patient.raw:
        if name.lower() in read or _OF_THE_PLATFORM.match(name):
            continue
        alike = difflib.get_close_matches(_plain(name), known, n=1, cutoff=_ALIKE)
        if alike:
            found.append(MISSPELT.found(f"{name} is read by nobody; {known[alike[0]]} is meant?"))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _examples(patient: Patient) -> list[Finding]:
    values = ((name, patient.value(name) or "") for name in _PLACEHOLDERS)
    return [
        EXAMPLE.found(f"{name} is that of the example")
        for name, value in values
        if _PLACEHOLDERS[name].fullmatch(value)
    ]
