"""Storage: the host's own, and that of calls: reached, by identity, with the right to write."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus

from azure.core.exceptions import AzureError, HttpResponseError

from doctor.check import check, fine
from doctor.finding import CannotCheck, Fault, Finding, Mark
from doctor.patient import NAMED_OTHERWISE, Patient
from doctor.storage import NoIdentity, queue_client, table_client

HOST_MISSING = Fault(
    "host-storage-missing",
    "AzureWebJobsStorage is not set: the Functions host has no place for its keys and its timers, and does not start.",
    "Set AzureWebJobsStorage__accountName (with __credential and __clientId); on a laptop AzureWebJobsStorage.",
)
HOST_HALF = Fault(
    "host-storage-identity",
    "The host's storage is reached by a user-assigned identity, but not both of __credential and __clientId are set.",
    "Set AzureWebJobsStorage__credential to managedidentity and AzureWebJobsStorage__clientId to the client id.",
)
BY_KEY = Fault(
    "storage-by-key",
    "A deployed app reaches storage by a connection string: a key in the settings, which also overrides the identity.",
    "Remove the connection string; set …__accountName (host) or …__tableServiceUri and …__queueServiceUri (calls).",
    Mark.WARN,
)
CONNECTION = Fault(
    "storage-connection-wrong",
    "CALLS_STORAGE is no connection string.",
    "Copy the whole connection string, on one line; Azurite's is UseDevelopmentStorage=true.",
)
UNREACHABLE = Fault(
    "storage-unreachable",
    "The storage account of calls does not answer.",
    "Correct its address; start Azurite (make up); open the way to its private endpoints.",
)
ROLE = Fault(
    "storage-role-missing",
    "The identity lacks a role on the storage account.",
    "Assign Storage Table Data Contributor and Storage Queue Data Contributor on the account of calls, and Storage "
    "Blob Data Owner on the host's; a new role takes some minutes to work.",
)
FIREWALL = Fault(
    "storage-firewall",
    "The storage account refuses this network (AuthorizationFailure).",
    "Allow the app's network in the account's firewall, or use private endpoints.",
)
KEY_OFF = Fault(
    "storage-key-disabled",
    "The storage account takes no keys (allowSharedKeyAccess is false), and CALLS_STORAGE has one.",
    "Reach it by identity: CALLS_STORAGE__tableServiceUri and CALLS_STORAGE__queueServiceUri instead of CALLS_STORAGE.",
)
KEY_WRONG = Fault(
    "storage-key-wrong",
    "The storage account refuses the credential (AuthenticationFailed): the key was changed, or the clock is off.",
    "Copy the connection string anew; better, reach the account by identity.",
)
IDENTITY = Fault(
    "storage-no-identity",
    "There is no managed identity here to reach the storage account with.",
    "In Azure: assign the identity to the app. On a laptop: set CALLS_STORAGE to Azurite's connection string.",
)

_HOST = "AzureWebJobsStorage"
_BY_CODE = {
    "AuthorizationPermissionMismatch": ROLE,
    "AuthorizationFailure": FIREWALL,
    "KeyBasedAuthenticationNotPermitted": KEY_OFF,
    "AuthenticationFailed": KEY_WRONG,
    "InvalidAuthenticationInfo": KEY_WRONG,
}
_NOTHING = "doctor"  # the keys of a row that nobody writes


@check("host storage", "Has the Functions host its storage?", HOST_MISSING, HOST_HALF, BY_KEY)
async def host_storage(patient: Patient) -> AsyncIterator[Finding]:
    """By the settings alone."""
    by_identity = patient.value(f"{_HOST}__accountName") or patient.value(f"{_HOST}__blobServiceUri")
    if not patient.value(_HOST) and not by_identity:
        yield HOST_MISSING.found(f"neither {_HOST} nor {_HOST}__accountName is set")
    halves = (patient.value(f"{_HOST}__credential"), patient.value(f"{_HOST}__clientId"))
    if any(halves) and not all(halves):
        yield HOST_HALF.found(f"{_HOST}__{'clientId' if halves[0] else 'credential'} is not set")
    if patient.deployment:
        # On Flex the host's is worse than a key in a setting: see flex-setting-breaking.
        for name in ("CALLS_STORAGE",) if patient.deployment.flex else (_HOST, "CALLS_STORAGE"):
            if patient.value(name):
                yield BY_KEY.found(f"{name} is a connection string")


@check(
    "storage",
    "Can calls be written down?",
    *(CONNECTION, UNREACHABLE, ROLE, FIREWALL, KEY_OFF, KEY_WRONG, IDENTITY),
)
async def storage(patient: Patient) -> AsyncIterator[Finding]:
    """Reads a row and a queue, and, with the app's own credential, deletes a row and a message that are not there."""
    if (patient.value("CALLS_STORAGE") or "").startswith(NAMED_OTHERWISE):
        raise CannotCheck("CALLS_STORAGE is in Key Vault, where the doctor does not look")
    found = [
        finding for name, ask in (("table", _table), ("queue", _queue)) if (finding := await _try(patient, name, ask))
    ]
    if patient.deployment and any(finding.name == ROLE.name for finding in found):
        raise CannotCheck("your own login (az) may not read the storage; the app's roles are looked up instead")
    for finding in found:
        yield finding
    if not found:
        yield fine("storage", "table and queue can be read and written")


async def _try(patient: Patient, name: str, ask: Callable[[Patient], Awaitable[None]]) -> Finding | None:
    try:
        await ask(patient)
    except ValueError:  # of the SDK, for a connection string; its text may repeat it
        return CONNECTION.found("CALLS_STORAGE is no connection string")
    except NoIdentity as error:
        return IDENTITY.found(f"no token for its {name} endpoint ({error})")
    except HttpResponseError as error:
        return _refused(name, error)
    except AzureError as error:
        return UNREACHABLE.found(f"its {name} endpoint does not answer ({type(error).__name__})")
    return None


def _refused(name: str, error: HttpResponseError) -> Finding:
    code = code_of(error)
    told = f"its {name} endpoint answers {error.status_code or 'nothing'}{f' {code}' if code else ''}"
    if error.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _BY_CODE.get(code, ROLE).found(told)
    return UNREACHABLE.found(told)


async def _table(patient: Patient) -> None:
    async with table_client(patient) as client:
        try:
            await client.get_entity(_NOTHING, _NOTHING)
        except HttpResponseError as error:
            _let_pass(error, HTTPStatus.NOT_FOUND)
        if not patient.deployment:
            try:
                await client.delete_entity(_NOTHING, _NOTHING)
            except HttpResponseError as error:
                _let_pass(error, HTTPStatus.NOT_FOUND)


async def _queue(patient: Patient) -> None:
    async with queue_client(patient) as client:
        try:
            await client.get_queue_properties()
            if not patient.deployment:
                await client.delete_message(_NOTHING, _NOTHING)
        except HttpResponseError as error:
            _let_pass(error, HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)


def _let_pass(error: HttpResponseError, *healthy: HTTPStatus) -> None:
    if error.status_code not in healthy:
        raise error


def code_of(error: HttpResponseError) -> str:
    """Storage's own code of an error; empty where it is not storage that speaks."""
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    code = getattr(error, "error_code", None) or headers.get("x-ms-error-code")
    return str(getattr(code, "value", code) or "")
