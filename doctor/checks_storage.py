"""Checks of storage: the host's settings for it, and read and write access to the account of calls."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus

from azure.core.exceptions import AzureError, HttpResponseError

from doctor.check import check, note
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.storage import ManagedIdentityUnavailable, queue_client, table_client
from doctor.target import KEY_VAULT_REFERENCE, Target

HOST_MISSING = Fault(
    "host-storage-missing",
    "AzureWebJobsStorage is not set. The Functions host keeps its keys and timer state there and does not start.",
    "Set AzureWebJobsStorage__accountName (with __credential and __clientId), or on a laptop AzureWebJobsStorage.",
)
HOST_HALF = Fault(
    "host-storage-identity",
    "The host uses a user-assigned identity for its storage, but only one of __credential and __clientId is set.",
    "Set AzureWebJobsStorage__credential to managedidentity and AzureWebJobsStorage__clientId to the client id.",
)
BY_KEY = Fault(
    "storage-by-key",
    "A deployed app uses a connection string for storage: a key in the settings, which also overrides the identity.",
    "Remove the connection string. Set …__accountName (host), or …__tableServiceUri and …__queueServiceUri (calls).",
    Severity.WARN,
)
CONNECTION = Fault(
    "storage-connection-wrong",
    "CALLS_STORAGE is not a connection string.",
    "Copy the whole connection string on one line. Azurite's is UseDevelopmentStorage=true.",
)
UNREACHABLE = Fault(
    "storage-unreachable",
    "The storage account of calls does not answer.",
    "Correct its address, start Azurite (make up), or open the network to its private endpoints.",
)
ROLE = Fault(
    "storage-role-missing",
    "The identity lacks a role on the storage account.",
    "Assign Storage Table Data Contributor and Storage Queue Data Contributor on the account of calls, and Storage "
    "Blob Data Owner on the host's account. A new role takes effect after some minutes.",
)
FIREWALL = Fault(
    "storage-firewall",
    "The storage account's firewall refuses this network (AuthorizationFailure).",
    "Allow the app's network in the account's firewall, or use private endpoints.",
)
KEY_OFF = Fault(
    "storage-key-disabled",
    "The storage account accepts no keys (allowSharedKeyAccess is false), but CALLS_STORAGE has one.",
    "Use an identity: set CALLS_STORAGE__tableServiceUri and CALLS_STORAGE__queueServiceUri, not CALLS_STORAGE.",
)
KEY_WRONG = Fault(
    "storage-key-wrong",
    "The storage account rejects the credential (AuthenticationFailed): the key was changed, or the clock is wrong.",
    "Copy the connection string again or, better, use an identity.",
)
IDENTITY = Fault(
    "storage-no-identity",
    "The settings name a managed identity for storage, but this machine has none.",
    "In Azure, assign the identity to the app. On a laptop, set CALLS_STORAGE to Azurite's connection string.",
)

_HOST = "AzureWebJobsStorage"
_BY_CODE = {
    "AuthorizationPermissionMismatch": ROLE,
    "AuthorizationFailure": FIREWALL,
    "KeyBasedAuthenticationNotPermitted": KEY_OFF,
    "AuthenticationFailed": KEY_WRONG,
    "InvalidAuthenticationInfo": KEY_WRONG,
}
_ABSENT_KEY = "doctor"  # partition key, row key and message id that the app never writes


@check("host storage", "Does the Functions host have its storage?", HOST_MISSING, HOST_HALF, BY_KEY)
async def host_storage(target: Target) -> AsyncIterator[Finding]:
    """Check the settings; the host's account itself is not read."""
    by_identity = target.value(f"{_HOST}__accountName") or target.value(f"{_HOST}__blobServiceUri")
    if not target.value(_HOST) and not by_identity:
        yield HOST_MISSING.found(f"neither {_HOST} nor {_HOST}__accountName is set")
    halves = (target.value(f"{_HOST}__credential"), target.value(f"{_HOST}__clientId"))
    if any(halves) and not all(halves):
        yield HOST_HALF.found(f"{_HOST}__{'clientId' if halves[0] else 'credential'} is not set")
    if target.deployment:
        # On Flex, AzureWebJobsStorage is reported as flex-setting-breaking, which is worse.
        for name in ("CALLS_STORAGE",) if target.deployment.flex else (_HOST, "CALLS_STORAGE"):
            if target.value(name):
                yield BY_KEY.found(f"{name} is a connection string")


@check(
    "storage",
    "Can calls be stored?",
    *(CONNECTION, UNREACHABLE, ROLE, FIREWALL, KEY_OFF, KEY_WRONG, IDENTITY),
)
async def storage(target: Target) -> AsyncIterator[Finding]:
    """Read a row and a queue. With the app's own credential, also delete a row and a message that do not exist."""
    if (target.value("CALLS_STORAGE") or "").startswith(KEY_VAULT_REFERENCE):
        raise CannotCheck("CALLS_STORAGE is in Key Vault, which the doctor does not read")
    attempts = (await _try(target, "table", _use_table), await _try(target, "queue", _use_queue))
    findings = [finding for finding in attempts if finding]
    if target.deployment and any(finding.name == ROLE.name for finding in findings):
        raise CannotCheck("your own login (az) may not read the storage; the check roles reads the app's roles instead")
    for finding in findings:
        yield finding
    if not findings:
        yield note("storage", "table and queue can be read and written")


async def _try(target: Target, name: str, use: Callable[[Target], Awaitable[None]]) -> Finding | None:
    try:
        await use(target)
    except ValueError:  # raised by the SDK; its text may contain the connection string
        return CONNECTION.found("CALLS_STORAGE is not a connection string")
    except ManagedIdentityUnavailable as error:
        return IDENTITY.found(f"no token for its {name} endpoint ({error})")
    except HttpResponseError as error:
        return _refused(name, error)
    except AzureError as error:
        return UNREACHABLE.found(f"its {name} endpoint does not answer ({type(error).__name__})")
    return None


def _refused(name: str, error: HttpResponseError) -> Finding:
    code = error_code(error)
    observed = f"its {name} endpoint answers {error.status_code or 'nothing'}{f' {code}' if code else ''}"
    if error.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _BY_CODE.get(code, ROLE).found(observed)
    return UNREACHABLE.found(observed)


async def _use_table(target: Target) -> None:
    async with table_client(target) as client:
        try:
            await client.get_entity(_ABSENT_KEY, _ABSENT_KEY)
        except HttpResponseError as error:
            _raise_unless(error, HTTPStatus.NOT_FOUND)
        if not target.deployment:
            try:
                await client.delete_entity(_ABSENT_KEY, _ABSENT_KEY)
            except HttpResponseError as error:
                _raise_unless(error, HTTPStatus.NOT_FOUND)


async def _use_queue(target: Target) -> None:
    async with queue_client(target) as client:
        try:
            await client.get_queue_properties()
            if not target.deployment:
                await client.delete_message(_ABSENT_KEY, _ABSENT_KEY)
        except HttpResponseError as error:
            _raise_unless(error, HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)


def _raise_unless(error: HttpResponseError, *healthy: HTTPStatus) -> None:
    if error.status_code not in healthy:
        raise error


def error_code(error: HttpResponseError) -> str:
    """Return storage's own code of an error; empty if the response is not storage's."""
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    code = getattr(error, "error_code", None) or headers.get("x-ms-error-code")
    return str(getattr(code, "value", code) or "")
