"""The app's folder: the functions that the worker finds in it, `host.json`, and what is pinned."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from doctor.check import check, fine
from doctor.checks_schedule import OTHERS, TIMER
from doctor.finding import CannotCheck, Fault, Finding, Mark
from doctor.patient import Patient
from local.host.errors import HostError
from local.host.settings import host_options

PATIENCE = 60.0  # seconds for the worker library to load the app

IMPORT = Fault(
    "import-error",
    "The app cannot be imported: in Azure that is '0 functions found', often after a deployment that says success.",
    "Mend what is named; a package that is missing belongs into requirements.txt.",
)
NONE = Fault(
    "no-functions",
    "The worker, or Azure, finds no function in the app.",
    "See that function_app.py is beside host.json in the package and registers the blueprints; then deploy again.",
)
LACKING = Fault(
    "functions-missing",
    "Functions that Call Keeper needs are not among those that are found.",
    "Register their blueprints in function_app.py, and deploy the whole package again.",
)
PYTHON = Fault(
    "python-version",
    "The Python that runs the app is not the one that its packages are pinned for.",
    "Use Python 3.13: here in the virtual environment, in Azure as the function app's runtime version.",
)
HOST_JSON = Fault("host-json-wrong", "host.json is missing or cannot be read.", "Take the repository's host.json.")
BUNDLE = Fault(
    "bundle-missing",
    "host.json has no extension bundle: the queue trigger, with all retries, is not there.",
    'Put "extensionBundle" with Microsoft.Azure.Functions.ExtensionBundle, [4.*, 5.0.0) into host.json.',
)
ENCODING = Fault(
    "queue-encoding",
    "messageEncoding of host.json is not base64, which is how wake-ups are put on the queue: all go to poison.",
    'Set "messageEncoding": "base64" under extensions.queues.',
)
PREFIX = Fault(
    "route-prefix",
    "host.json moves the routes: callbackUris, probes and documents that say /api lead nowhere.",
    'Set "routePrefix": "api" under extensions.http, or change the bots\' callbackUri too.',
    Mark.WARN,
)
PACKAGES = Fault(
    "worker-in-requirements",
    "requirements.txt has a package that the platform brings itself, or the runtime of the older programming model; "
    "two of them clash, and the worker dies.",
    "Remove it from requirements.txt.",
)
HOST_ID = Fault(
    "host-id-long",
    "The app's name has more than 32 characters, and the host's id is cut there: two such apps that share a storage "
    "account steal each other's timers.",
    "Use a shorter name, or set AzureFunctionsWebHost__hostid to something of its own.",
    Mark.WARN,
)

NEEDED = {TIMER, *OTHERS}
# azure-functions-runtime is none of them: there it says which version of it the platform's worker loads.
_OF_THE_PLATFORM = re.compile(
    r"^(azure[-_]functions[-_](?:worker\S*|runtime[-_]\S*)|grpcio|protobuf)\b", re.IGNORECASE | re.MULTILINE
)
_LONGEST_ID = 32  # characters
_REPOSITORY = Path(__file__).resolve().parents[1]


class _Listed(BaseModel):
    name: str


class _Bundle(BaseModel):
    id: str = ""


class _HostJson(BaseModel):
    model_config = ConfigDict(extra="ignore")
    bundle: _Bundle | None = Field(default=None, alias="extensionBundle")


@check("functions", "Does the worker library find the functions?", IMPORT, NONE, LACKING)
async def functions(patient: Patient) -> AsyncIterator[Finding]:
    """Loads the app through Microsoft's worker library, in a process of its own."""
    names, complaint = await _load(patient.options.root)
    if complaint:
        nothing = "functions found" in complaint or complaint.startswith("no ")
        yield (NONE if nothing else IMPORT).found(complaint)
    elif lacking := sorted(NEEDED - names):
        yield LACKING.found(f"{', '.join(lacking)} not found among {len(names)}")
    else:
        yield fine("functions", f"the worker library finds {len(names)}")


@check("python", "Is it the right Python?", PYTHON)
async def python(patient: Patient) -> AsyncIterator[Finding]:
    """The one of Azure for a deployed app, else the one that runs the doctor."""
    pinned = patient.options.root / ".python-version"
    wanted = pinned.read_text(encoding="utf-8").strip() if pinned.is_file() else "3.13"
    here = patient.deployment.python if patient.deployment else f"{sys.version_info.major}.{sys.version_info.minor}"
    if here is None:
        raise CannotCheck("az does not say which Python the app has")
    if here.split(".")[:2] != wanted.split(".")[:2]:
        where = "Azure runs" if patient.deployment else "this is"
        yield PYTHON.found(f"{where} Python {here}, and {wanted} is wanted")


@check("host.json", "Is host.json what the app needs?", HOST_JSON, BUNDLE, ENCODING, PREFIX)
async def host_json(patient: Patient) -> AsyncIterator[Finding]:
    """Looks at the traps, not at taste."""
    root = patient.options.root
    try:
        options = host_options(root)
        raw = _HostJson.model_validate_json((root / "host.json").read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (HostError, ValidationError) as error:
        why = (
            str(error).replace(str(root), "the folder") if isinstance(error, HostError) else "extensionBundle is wrong"
        )
        yield HOST_JSON.found(why.partition("\n")[0])
        return
    if raw.bundle is None or not raw.bundle.id:
        yield BUNDLE.found("host.json names no extensionBundle")
    if options.extensions.queues.message_encoding != "base64":
        yield ENCODING.found("messageEncoding is none")
    if options.extensions.http.route_prefix != "api":
        yield PREFIX.found(f"routePrefix is {options.extensions.http.route_prefix!r}")


@check("requirements", "Does requirements.txt leave the platform's packages alone?", PACKAGES)
async def requirements(patient: Patient) -> AsyncIterator[Finding]:
    """Packages that the Python worker has already, and that the app's must not replace."""
    path = patient.options.root / "requirements.txt"
    if not path.is_file():
        raise CannotCheck("there is no requirements.txt in the app's folder")
    for found in sorted(set(_OF_THE_PLATFORM.findall(path.read_text(encoding="utf-8")))):
        yield PACKAGES.found(f"requirements.txt has {found.partition('=')[0]}")


@check("host id", "Is the host's id the app's own?", HOST_ID, deployed=True)
async def host_id(patient: Patient) -> AsyncIterator[Finding]:
    """The id is the name in lower case, cut after 32 characters."""
    name = patient.deployment.name if patient.deployment else ""
    if len(name) > _LONGEST_ID and not patient.value("AzureFunctionsWebHost__hostid"):
        yield HOST_ID.found(f"the name {name} has {len(name)} characters")


async def _load(root: Path) -> tuple[set[str], str]:
    """The names of the functions, or what the worker library complains of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.host", "--list", "--root", str(root)),
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return set(), f"the app was not loaded within {PATIENCE:.0f} s"
    if process.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no word of why"])[-1]
        return set(), last.removeprefix("host: ").replace(str(root), "the folder")
    return {found.name for found in TypeAdapter(list[_Listed]).validate_python(json.loads(out))}, ""
