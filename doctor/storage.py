"""Clients of the app's storage, with the app's own credential on a laptop and the login of `az` for a deployed app."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

from doctor.finding import CannotCheck
from doctor.target import Target
from shared.services import TABLE_NAME
from shared.storage.relay_queue import RELAY_QUEUE_NAME
from shared.storage.wakeup_queue import QUEUE_NAME

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableClient
    from azure.storage.queue.aio import QueueClient

_SCOPE = "https://storage.azure.com/.default"  # the same in all clouds
POISON_QUEUES = (f"{QUEUE_NAME}-poison", f"{RELAY_QUEUE_NAME}-poison")


class ManagedIdentityUnavailable(Exception):
    """No token of a managed identity is available. The message is the type of the error."""


class _Options(TypedDict):
    """Options of the SDK's clients, times in seconds. The doctor does not retry."""

    retry_total: int
    connection_timeout: float
    read_timeout: float


_NO_RETRY = _Options(retry_total=0, connection_timeout=4, read_timeout=6)


@asynccontextmanager
async def table_client(target: Target) -> AsyncIterator["TableClient"]:
    """Yield a client of the table of calls, which may not exist yet.

    Raises
    ------
    ValueError
        The connection string is malformed. The text may contain it.
    ManagedIdentityUnavailable
        The settings name an identity, and there is no token for it on this machine.
    CannotCheck
        The app is deployed, and the login of `az` gives no token.
    """
    from azure.data.tables.aio import TableClient  # noqa: PLC0415 slow to import

    settings = target.settings
    async with AsyncExitStack() as stack:
        if settings.calls_storage:
            connection = settings.calls_storage.get_secret_value()
            yield await stack.enter_async_context(
                TableClient.from_connection_string(connection, TABLE_NAME, **_NO_RETRY)
            )
        else:
            account, credential = settings.calls_storage_table_service_uri, await _identity(target, stack)
            client = TableClient(account or "", TABLE_NAME, credential=credential, **_NO_RETRY)
            yield await stack.enter_async_context(client)


@asynccontextmanager
async def queue_client(target: Target, name: str = QUEUE_NAME) -> AsyncIterator["QueueClient"]:
    """Yield a client of a queue, which may not exist yet. Raises the errors of `table_client`."""
    from azure.storage.queue.aio import QueueClient  # noqa: PLC0415 slow to import

    settings = target.settings
    async with AsyncExitStack() as stack:
        if settings.calls_storage:
            connection = settings.calls_storage.get_secret_value()
            yield await stack.enter_async_context(QueueClient.from_connection_string(connection, name, **_NO_RETRY))
        else:
            account, credential = settings.calls_storage_queue_service_uri, await _identity(target, stack)
            client = QueueClient(account or "", name, credential=credential, **_NO_RETRY)
            yield await stack.enter_async_context(client)


async def _identity(target: Target, stack: AsyncExitStack) -> "AsyncTokenCredential":
    from azure.identity import aio  # noqa: PLC0415 slow to import

    settings = target.settings
    client_id = settings.calls_storage_client_id or settings.azure_client_id
    credential = (
        await stack.enter_async_context(aio.AzureCliCredential())
        if target.deployment
        else await stack.enter_async_context(aio.ManagedIdentityCredential(client_id=client_id, retry_total=0))
    )
    try:
        await credential.get_token(_SCOPE)
    except Exception as error:  # noqa: BLE001 azure-identity raises KeyErrors too
        if target.deployment:
            raise CannotCheck("your login (az) gives no token for storage: run az login") from None
        raise ManagedIdentityUnavailable(type(error).__name__) from None
    return credential
