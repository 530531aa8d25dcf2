"""Checks of the app's folder: its functions, Python version, `host.json`, requirements and host id."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from doctor.check import check, note
from doctor.checks_schedule import TIMER, other_functions
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.target import Target
from local.host.errors import HostError
from local.host.settings import host_options

LOAD_TIMEOUT = timedelta(seconds=60)  # for the worker library to load the app

IMPORT = Fault(
    "import-error",
    "The app cannot be imported. In Azure it then has 0 functions, often after a deployment that reports success.",
    "Correct the named error. Add a missing package to requirements.txt.",
)
NONE = Fault(
    "no-functions",
    "The worker library, or Azure, finds no function in the app.",
    "Check that function_app.py is next to host.json in the package and registers the blueprints. Then deploy again.",
)
MISSING = Fault(
    "functions-missing",
    "The app lacks functions that Call Keeper needs.",
    "Register their blueprints in function_app.py and deploy the whole package again.",
)
PYTHON = Fault(
    "python-version",
    "The app runs on another Python version than its packages are pinned for.",
    "Use Python 3.13: on this machine in the virtual environment, in Azure as the function app's runtime version.",
)
HOST_JSON = Fault("host-json-wrong", "host.json is missing or cannot be read.", "Use the repository's host.json.")
BUNDLE = Fault(
    "bundle-missing",
    "host.json has no extension bundle, so there is no queue trigger and no retry.",
    'Add "extensionBundle" with Microsoft.Azure.Functions.ExtensionBundle, [4.*, 5.0.0) to host.json.',
)
ENCODING = Fault(
    "queue-encoding",
    "messageEncoding in host.json is not base64. Wake-ups are sent in base64, so all of them go to the poison queue.",
    'Set "messageEncoding": "base64" under extensions.queues.',
)
PREFIX = Fault(
    "route-prefix",
    "host.json changes the prefix of the routes. Each callbackUri, probe and document with /api is then wrong.",
    'Set "routePrefix": "api" under extensions.http, or change the bots\' callbackUri too.',
    Severity.WARN,
)
PACKAGES = Fault(
    "worker-in-requirements",
    "requirements.txt has a package that the platform already has, or the runtime of the older programming model. "
    "The two versions conflict and the worker crashes.",
    "Remove it from requirements.txt.",
)
HOST_ID = Fault(
    "host-id-long",
    "The app's name has more than 32 characters. The host's id is its first 32, so two apps on one storage account can "
    "get the same id and take each other's timer locks.",
    "Use a shorter name, or set AzureFunctionsWebHost__hostid to a unique value.",
    Severity.WARN,
)

# azure-functions-runtime is allowed: its pin chooses the version that the platform's worker loads.
_PLATFORM_PACKAGES = re.compile(
    r"^(azure[-_]functions[-_](?:worker\S*|runtime[-_]\S*)|grpcio|protobuf)\b", re.IGNORECASE | re.MULTILINE
)
_MAX_HOST_ID = 32  # characters; the Functions host cuts a longer name
_REPOSITORY = Path(__file__).resolve().parents[1]


class _ListedFunction(BaseModel):
    name: str


class _Bundle(BaseModel):
    id: str = ""


class _HostJson(BaseModel):
    model_config = ConfigDict(extra="ignore")
    bundle: _Bundle | None = Field(default=None, alias="extensionBundle")


@check("functions", "Does the worker library find the functions?", IMPORT, NONE, MISSING)
async def functions(target: Target) -> AsyncIterator[Finding]:
    """Load the app through Microsoft's worker library, in a separate process."""
    names, error = await _load(target.options.root, target.value("RELAY_TARGETS") or "")
    if error:
        is_empty = "functions found" in error or error.startswith("no ")
        yield (NONE if is_empty else IMPORT).found(error)
    elif missing := missing_functions(target, names):
        yield MISSING.found(f"{', '.join(missing)} not found among {len(names)}")
    else:
        yield note("functions", f"the worker library finds {len(names)}")


@check("python", "Does the app run on the right Python version?", PYTHON)
async def python(target: Target) -> AsyncIterator[Finding]:
    """Compare the Python version of the deployed app, or of the doctor's own process, with the pinned one."""
    pinned = target.options.root / ".python-version"
    wanted = pinned.read_text(encoding="utf-8").strip() if pinned.is_file() else "3.13"
    actual = target.deployment.python if target.deployment else f"{sys.version_info.major}.{sys.version_info.minor}"
    if actual is None:
        raise CannotCheck("az does not report the app's Python version")
    if actual.split(".")[:2] != wanted.split(".")[:2]:
        runner = "Azure" if target.deployment else "this machine"
        yield PYTHON.found(f"{runner} runs Python {actual}, but the app needs {wanted}")


@check("host.json", "Is host.json right for the app?", HOST_JSON, BUNDLE, ENCODING, PREFIX)
async def host_json(target: Target) -> AsyncIterator[Finding]:
    """Check the options that break the app."""
    root = target.options.root
    try:
        options = host_options(root)
        raw = _HostJson.model_validate_json((root / "host.json").read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (HostError, ValidationError) as error:
        reason = str(error) if isinstance(error, HostError) else "extensionBundle is wrong"
        yield HOST_JSON.found(reason.replace(str(root), "the folder").partition("\n")[0])
        return
    if raw.bundle is None or not raw.bundle.id:
        yield BUNDLE.found("host.json has no extensionBundle")
    if options.extensions.queues.message_encoding != "base64":
        yield ENCODING.found("messageEncoding is 'none'")
    if options.extensions.http.route_prefix != "api":
        yield PREFIX.found(f"routePrefix is {options.extensions.http.route_prefix!r}")


@check("requirements", "Is requirements.txt free of packages of the platform?", PACKAGES)
async def requirements(target: Target) -> AsyncIterator[Finding]:
    """Look for packages that the Python worker has already, which the app must not replace."""
    path = target.options.root / "requirements.txt"
    if not path.is_file():
        raise CannotCheck("the app's folder has no requirements.txt")
    for found in sorted(set(_PLATFORM_PACKAGES.findall(path.read_text(encoding="utf-8")))):
        yield PACKAGES.found(f"requirements.txt has {found.partition('=')[0]}")


@check("host id", "Is the host's id unique to the app?", HOST_ID, deployed_only=True)
async def host_id(target: Target) -> AsyncIterator[Finding]:
    """Check the length of the name: the host's id is the name in lower case, cut after 32 characters."""
    name = target.deployment.name if target.deployment else ""
    if len(name) > _MAX_HOST_ID and not target.value("AzureFunctionsWebHost__hostid"):
        yield HOST_ID.found(f"the name {name} has {len(name)} characters")


def missing_functions(target: Target, found: set[str]) -> list[str]:
    """Return the functions that the app needs and does not have."""
    return sorted({TIMER, *other_functions(target)} - found)


async def _load(root: Path, relay_targets: str) -> tuple[set[str], str]:
    """Return the names of the functions, and the worker library's error or an empty text."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.host", "--list", "--root", str(root)),
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "RELAY_TARGETS": relay_targets},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LOAD_TIMEOUT.total_seconds()):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return set(), f"the app was not loaded within {LOAD_TIMEOUT.total_seconds():.0f} s"
    if process.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        return set(), last.removeprefix("host: ").replace(str(root), "the folder")
    return {found.name for found in TypeAdapter(list[_ListedFunction]).validate_python(json.loads(out))}, ""
