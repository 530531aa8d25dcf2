"""Clients of the app's storage: its own credential on a laptop, for a deployed app the login of `az`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

from doctor.finding import CannotCheck
from doctor.patient import Patient
from shared.services import TABLE_NAME
from shared.storage.wakeup_queue import QUEUE_NAME

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableClient
    from azure.storage.queue.aio import QueueClient

_SCOPE = "https://storage.azure.com/.default"  # in all clouds
POISON = f"{QUEUE_NAME}-poison"


class NoIdentity(Exception):
    """There is no managed identity here. The message is the kind of the error."""


class _Options(TypedDict):
    """Options of the SDK's clients, times in seconds: a doctor does not try again."""

    retry_total: int
    connection_timeout: float
    read_timeout: float


_ONCE = _Options(retry_total=0, connection_timeout=4, read_timeout=6)


@asynccontextmanager
async def table_client(patient: Patient) -> AsyncIterator["TableClient"]:
    """The table of calls, which may not be there yet.

    Raises
    ------
    ValueError
        The connection string is none; the text may repeat it.
    NoIdentity, CannotCheck
        It is reached by identity, and there is none: of the app, or of whoever is logged in.
    """
    from azure.data.tables.aio import TableClient  # noqa: PLC0415 slow to import

    settings = patient.settings
    async with AsyncExitStack() as stack:
        if settings.calls_storage:
            connection = settings.calls_storage.get_secret_value()
            yield await stack.enter_async_context(TableClient.from_connection_string(connection, TABLE_NAME, **_ONCE))
        else:
            account, credential = settings.calls_storage_table_service_uri, await _identity(patient, stack)
            client = TableClient(account or "", TABLE_NAME, credential=credential, **_ONCE)
            yield await stack.enter_async_context(client)


@asynccontextmanager
async def queue_client(patient: Patient, name: str = QUEUE_NAME) -> AsyncIterator["QueueClient"]:
    """A queue, which may not be there yet. Raises as `table_client`."""
    from azure.storage.queue.aio import QueueClient  # noqa: PLC0415 slow to import

    settings = patient.settings
    async with AsyncExitStack() as stack:
        if settings.calls_storage:
            connection = settings.calls_storage.get_secret_value()
            yield await stack.enter_async_context(QueueClient.from_connection_string(connection, name, **_ONCE))
        else:
            account, credential = settings.calls_storage_queue_service_uri, await _identity(patient, stack)
            client = QueueClient(account or "", name, credential=credential, **_ONCE)
            yield await stack.enter_async_context(client)


async def _identity(patient: Patient, stack: AsyncExitStack) -> "AsyncTokenCredential":
    from azure.identity import aio  # noqa: PLC0415 slow to import

    settings = patient.settings
    client_id = settings.calls_storage_client_id or settings.azure_client_id
    credential = (
        await stack.enter_async_context(aio.AzureCliCredential())
        if patient.deployment
        else await stack.enter_async_context(aio.ManagedIdentityCredential(client_id=client_id, retry_total=0))
    )
    try:
        await credential.get_token(_SCOPE)
    except Exception as error:  # noqa: BLE001 azure-identity lets out KeyErrors too; whatever it is: no token
        if patient.deployment:
            raise CannotCheck("your login (az) gives no token for storage: run az login") from None
        raise NoIdentity(type(error).__name__) from None
    return credential
