"""Clients of the queues that bindings name, and the encoding of messages."""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Self

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient
from azure_functions_runtime.bindings.datumdef import Datum

from local.host.errors import HostError
from local.host.functions import Binding, Function, Outcome
from local.host.settings import QueueOptions
from local.stack.azurite import Azurite

DEFAULT_CONNECTION = "AzureWebJobsStorage"
_DEVELOPMENT = "UseDevelopmentStorage=true"  # Azurite on its default ports; older Python SDKs do not accept this form
_CONNECTION_TIMEOUT = timedelta(seconds=5)

type Body = str | bytes


class UndecodableError(ValueError):
    """A message is not base64, although `messageEncoding` in host.json is base64."""


class Queues:
    """The queues of an app, with one client for each connection. Callers retry errors."""

    def __init__(self, settings: Mapping[str, str], options: QueueOptions) -> None:
        self._settings = settings
        self.options = options
        self._services: dict[str, QueueServiceClient] = {}

    def client(self, binding: Binding, *, function: str, suffix: str = "") -> QueueClient:
        """Return a client of the queue that this binding names, with `suffix` added to its name.

        Raises
        ------
        HostError
            Its connection setting is missing, or is not a connection string.
        """
        setting = binding.connection or DEFAULT_CONNECTION
        if setting not in self._services:
            self._services[setting] = self._service(setting, function)
        return self._services[setting].get_queue_client(f"{binding.queue_name}{suffix}")

    async def send(self, function: Function, outcome: Outcome) -> None:
        """Send the values of an invocation's queue output bindings."""
        for binding, value in outcome.values(function):
            if binding.type == "queue":
                queue = self.client(binding, function=function.name)
                for body in bodies(value):
                    await put(queue, self.encoded(body))

    def encoded(self, body: Body) -> str:
        """Return the text of a message with this body."""
        data = body.encode() if isinstance(body, str) else body
        return base64.b64encode(data).decode() if self.options.message_encoding == "base64" else data.decode()

    def decoded(self, text: str) -> Datum:
        """Return the body of a message with this text: a string, or bytes if it is not UTF-8."""
        if self.options.message_encoding == "none":
            return Datum(text, "string")
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise UndecodableError("it is not base64, which messageEncoding in host.json requires") from error
        try:
            return Datum(data.decode(), "string")
        except UnicodeDecodeError:
            return Datum(data, "bytes")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for service in self._services.values():
            await service.close()

    def _service(self, setting: str, function: str) -> QueueServiceClient:
        connection = self._settings.get(setting) or self._settings.get(f"AzureWebJobs{setting}")
        if not connection:
            raise HostError(
                f"function {function} needs the setting {setting}: a storage connection string, in the environment or"
                " in local.settings.json (the local host has no identity-based connections)"
            )
        if connection.strip().rstrip(";").lower() == _DEVELOPMENT.lower():
            connection = Azurite(10000, 10001, 10002).connection_string
        try:
            return QueueServiceClient.from_connection_string(
                connection, retry_total=0, connection_timeout=_CONNECTION_TIMEOUT.total_seconds()
            )
        except ValueError as error:
            raise HostError(f"the setting {setting} is not a storage connection string: {error}") from error


async def create(queue: QueueClient) -> None:
    """Create a queue if it is missing."""
    try:
        await queue.create_queue()
    except ResourceExistsError:
        return


async def put(queue: QueueClient, text: str) -> None:
    """Put a message on a queue. Create the queue if it is missing."""
    try:
        await queue.send_message(text)
    except ResourceNotFoundError:
        await create(queue)
        await queue.send_message(text)


def bodies(value: Datum) -> list[Body]:
    """Return the bodies in an output of a function. A JSON array becomes one message for each item, as in Azure."""
    if value.type == "bytes":
        return [value.value]
    text: str = value.value
    try:
        found = json.loads(text)
    except ValueError:
        return [text]
    if isinstance(found, list):
        return [_body(item) for item in found]
    return [_body(found) if value.type == "json" else text]


def _body(item: object) -> str:
    """Return the text of an item: the text itself, or the body of a `func.QueueMessage`, which is a JSON object."""
    match item:
        case str(body) | {"body": str(body)}:
            return body
        case _:
            return json.dumps(item)


def first_line(error: Exception) -> str:
    """Return the first line of an error of the SDK, without the headers and XML that follow."""
    return f"{type(error).__name__}: {str(error).partition('\n')[0]}"
