"""The composition root: `Services` builds each part once, when it is first used. Nothing is built at import."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, TypedDict

from shared import telemetry
from shared.api.continuation_tokens import ContinuationSigner
from shared.api.management import Management
from shared.api.records import Records
from shared.api.webhook import SenderAllowList, Webhook
from shared.clock import Clock, SystemClock
from shared.config.apps import Apps
from shared.config.settings import Settings, load_settings
from shared.errors import SettingsInvalid
from shared.health import HealthCheck
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.renewer import Renewer
from shared.keeping.staleness import StalenessCheck
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.relay_queue import RELAY_QUEUE_NAME, RelayMessage
from shared.storage.store import CallStore
from shared.storage.wakeup_queue import QUEUE_NAME, StorageQueue

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

    from shared.api.deliveries import Deliveries
    from shared.auth.signing_keys import SigningKeys
    from shared.auth.token_kinds import TokenKind
    from shared.auth.tokens import TokenVerifier
    from shared.graph.client import GraphCalls
    from shared.graph.token_cache import GraphTokens
    from shared.http_client import HttpClient
    from shared.relay.breaker import Destinations
    from shared.relay.care import OutboxCare
    from shared.relay.deliverer import Deliverer
    from shared.relay.outbox import OutboxPlanner
    from shared.relay.passthrough import PassThrough
    from shared.relay.schedule import Schedule
    from shared.relay.sender import RelaySender
    from shared.storage.azure_table import AzureTable
    from shared.storage.outbox import OutboxStore

TABLE_NAME = "calls"
RELAY_CONNECTIONS = 64  # to bots, half of them to one host at most


class QueueRetryOptions(TypedDict):
    """The waits between the attempts of a request to Queue Storage, in seconds."""

    initial_backoff: float
    increment_base: int
    random_jitter_range: int


# The SDK's own waits begin with 15 seconds. That is too long for a request or a sweep.
QUEUE_RETRY_OPTIONS = QueueRetryOptions(initial_backoff=0.2, increment_base=1, random_jitter_range=0)


class Services:
    """The parts of Call Keeper, built by the settings. All of them use the same clock and the same HTTP client."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        telemetry.quieten_libraries()

    @cached_property
    def http(self) -> "HttpClient":
        """The HTTP client for Graph and for signing keys."""
        from shared.http_client import make_http_client  # noqa: PLC0415 (aiohttp loads when it is needed)

        return make_http_client(self.settings.keep_alive_concurrency)

    @cached_property
    def apps(self) -> Apps:
        """The bots whose calls are kept alive."""
        return self.settings.apps

    @cached_property
    def graph(self) -> "GraphCalls":
        """Graph's calls API."""
        from shared.graph.client import GraphCalls  # noqa: PLC0415 (as above)

        return GraphCalls(self.http, self.tokens, self.settings, self.clock)

    @cached_property
    def tokens(self) -> "GraphTokens":
        """The tokens of all bots, for Graph and for the targets of the relay."""
        from shared.graph.token_cache import GraphTokens  # noqa: PLC0415 (azure-identity loads when it is needed)

        return GraphTokens(self.settings, self.clock)

    @cached_property
    def store(self) -> CallStore:
        """The store of calls in Table Storage."""
        return CallStore(self.table, self.outbox_planner)

    @cached_property
    def table(self) -> "AzureTable":
        """The table in Table Storage."""
        from azure.data.tables.aio import TableClient  # noqa: PLC0415 (loads when it is needed)

        from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable  # noqa: PLC0415 (as above)

        settings = self.settings
        if settings.calls_storage:
            connection = settings.calls_storage.get_secret_value()
            with _translate_connection_errors():
                client = TableClient.from_connection_string(connection, TABLE_NAME, **CLIENT_OPTIONS)
        else:
            account = str(settings.calls_storage_table_service_uri)
            client = TableClient(account, TABLE_NAME, credential=self._identity, **CLIENT_OPTIONS)
        return AzureTable(client)

    @cached_property
    def queue(self) -> StorageQueue:
        """The queue of wake-ups in Queue Storage."""
        return self._make_queue(QUEUE_NAME)

    def _make_queue(self, name: str) -> StorageQueue:
        from azure.storage.queue import TextBase64EncodePolicy  # noqa: PLC0415 (loads when it is needed)
        from azure.storage.queue.aio import QueueClient  # noqa: PLC0415 (as above)

        from shared.storage.azure_table import CLIENT_OPTIONS  # noqa: PLC0415 (as above)

        settings, policy = self.settings, TextBase64EncodePolicy()
        if settings.calls_storage:
            connection = settings.calls_storage.get_secret_value()
            with _translate_connection_errors():
                client = QueueClient.from_connection_string(
                    connection, name, message_encode_policy=policy, **CLIENT_OPTIONS, **QUEUE_RETRY_OPTIONS
                )
        else:
            account = str(settings.calls_storage_queue_service_uri)
            client = QueueClient(
                account,
                name,
                credential=self._identity,
                message_encode_policy=policy,
                **CLIENT_OPTIONS,
                **QUEUE_RETRY_OPTIONS,
            )
        return StorageQueue(client)

    @cached_property
    def best_effort_queue(self) -> BestEffortQueue:
        """The queue for callers that go on without it. All share one circuit breaker."""
        return BestEffortQueue(self.queue, self.clock, self.settings.timing)

    @cached_property
    def relay_queue(self) -> BestEffortQueue[RelayMessage]:
        """The queue of the relay."""
        return BestEffortQueue(self._make_queue(RELAY_QUEUE_NAME), self.clock, self.settings.timing)

    @cached_property
    def outbox(self) -> "OutboxStore":
        """The store of deliveries."""
        from shared.storage.outbox import OutboxStore  # noqa: PLC0415 (the relay loads if it has targets)

        return OutboxStore(self.table)

    @cached_property
    def destinations(self) -> "Destinations":
        """The states of the relay's destinations."""
        from shared.relay.breaker import Destinations  # noqa: PLC0415 (the relay loads if it has targets)

        return Destinations(self.outbox, self.clock, self._schedule)

    @cached_property
    def outbox_planner(self) -> "OutboxPlanner | None":
        """Adds deliveries to the changes of calls. None if the relay is off."""
        if not self.settings.relay_targets:
            return None
        from shared.relay.outbox import OutboxPlanner  # noqa: PLC0415 (as above)

        return OutboxPlanner(self.settings.relay, self.apps, self.destinations, self.relay_queue, self.clock)

    @cached_property
    def deliverer(self) -> "Deliverer":
        """The deliverer of notifications and events to bots."""
        from shared.relay.deliverer import Deliverer  # noqa: PLC0415 (the relay loads if it has targets)

        return Deliverer(
            self.outbox,
            self.settings.relay,
            self.destinations,
            self.sender,
            self.tokens,
            self.relay_queue,
            self.clock,
            self._schedule,
        )

    @cached_property
    def sender(self) -> "RelaySender":
        """The HTTP client for bots."""
        from shared.relay.sender import RelaySender  # noqa: PLC0415 (aiohttp loads when it is needed)

        return RelaySender(allow_private=self.settings.relay_allow_private_addresses, connections=RELAY_CONNECTIONS)

    @cached_property
    def outbox_care(self) -> "OutboxCare | None":
        """Finds deliveries that the queue has forgotten. None if the relay is off."""
        if not self.settings.relay_targets:
            return None
        from shared.relay.care import OutboxCare  # noqa: PLC0415 (as above)

        return OutboxCare(self.deliverer, self.outbox, self.clock, self.settings.relay_body_retention)

    @cached_property
    def pass_through(self) -> "PassThrough | None":
        """Passes Graph's requests on to bots. None if the relay is off."""
        settings = self.settings
        if not settings.relay_targets:
            return None
        from shared.relay.passthrough import PassThrough  # noqa: PLC0415 (as above)

        budgets = settings.relay_budget, settings.relay_sync_budget
        return PassThrough(self.deliverer, settings.relay, self.store, *budgets)

    @cached_property
    def _schedule(self) -> "Schedule":
        from shared.relay.schedule import Schedule  # noqa: PLC0415 (as above)

        return Schedule(self.settings.timing, Random())  # noqa: S311 (spreads retries; no secret)

    @cached_property
    def renewer(self) -> Renewer:
        """The renewer of single calls."""
        settings = self.settings
        return Renewer(
            self.store,
            self.graph,
            self.best_effort_queue,
            self.clock,
            settings.timing,
            concurrency=settings.keep_alive_concurrency,
        )

    @cached_property
    def keeper(self) -> Keeper:
        """The keeper, which sweeps."""
        return Keeper(
            self.store,
            self.renewer,
            self.best_effort_queue,
            self.clock,
            self._sweep_config,
            outbox_care=self.outbox_care,
        )

    @cached_property
    def staleness_check(self) -> StalenessCheck:
        """Checks after requests whether sweeps still happen."""
        return StalenessCheck(self.store, self.keeper, self.best_effort_queue, self.clock, self._sweep_config)

    @cached_property
    def _sweep_config(self) -> SweepConfig:
        settings = self.settings
        return SweepConfig(
            settings.timing,
            settings.keep_alive_concurrency,
            settings.sweep_budget,
            settings.sweep_fan_out_threshold,
            settings.ended_call_retention,
        )

    @cached_property
    def management(self) -> Management:
        """The requests of bots and operators."""
        timing = self.settings.timing
        queue = self.best_effort_queue
        records = Records(self.store, self.clock, timing, ContinuationSigner(self.store))
        return Management(
            self.store, self.graph, self.renewer, self.clock, timing, queue=queue, records=records, apps=self.apps
        )

    @cached_property
    def deliveries(self) -> "Deliveries":
        """The requests of operators about deliveries. They work also if the relay is off."""
        from shared.api.deliveries import Deliveries  # noqa: PLC0415 (loads when it is needed)
        from shared.relay.reopening import Reopening  # noqa: PLC0415 (as above)

        reopening = Reopening(self.outbox, self.destinations, self.clock)
        return Deliveries(
            self.management.records,
            self.outbox,
            reopening,
            self.destinations,
            self.settings.relay,
            self.relay_queue,
            self.apps,
            self.settings.relay_body_retention,
        )

    @cached_property
    def webhook(self) -> Webhook:
        """The notifications of Graph."""
        settings = self.settings
        verifier = self._make_verifier(self.notification_token_kinds)
        allow_list = SenderAllowList(frozenset(settings.allowed_tenant_ids))
        return Webhook(
            self.store,
            verifier,
            self.best_effort_queue,
            self.clock,
            allow_list,
            apps=self.apps,
            relay=self.pass_through,
        )

    @cached_property
    def management_verifier(self) -> "TokenVerifier | None":
        """The verifier of Entra tokens for management routes. None if the function key is enough for them."""
        return self._make_verifier(self.management_token_kinds) if self.management_token_kinds else None

    @cached_property
    def notification_token_kinds(self) -> "tuple[TokenKind, ...]":
        """The kinds of tokens that the webhook accepts."""
        from shared.auth.token_kinds import notification_token_kinds  # noqa: PLC0415 (cryptography loads when it is needed)

        return notification_token_kinds(self.settings, self._make_keys)

    @cached_property
    def management_token_kinds(self) -> "tuple[TokenKind, ...]":
        """The kinds of tokens that management routes accept. Empty if the function key is enough for them."""
        from shared.auth.token_kinds import management_token_kinds  # noqa: PLC0415 (as above)

        return management_token_kinds(self.settings, self._make_keys)

    @cached_property
    def health(self) -> HealthCheck:
        """The health check."""
        kinds = (*self.notification_token_kinds, *self.management_token_kinds)
        return HealthCheck(self.store, self.queue, kinds, self.clock, self.settings.timing, self.settings.relay_fault)

    @cached_property
    def _identity(self) -> "AsyncTokenCredential":
        from azure.identity.aio import ManagedIdentityCredential  # noqa: PLC0415 (loads when it is needed)

        client_id = self.settings.calls_storage_client_id or self.settings.azure_client_id
        return ManagedIdentityCredential(client_id=client_id)

    def _make_keys(self, metadata_urls: tuple[str, ...]) -> "SigningKeys":
        from shared.auth.signing_keys import SigningKeys  # noqa: PLC0415 (loads when it is needed)

        return SigningKeys(metadata_urls, self.http, self.clock, self.settings.signing_key_hosts)

    def _make_verifier(self, kinds: "tuple[TokenKind, ...]") -> "TokenVerifier":
        from shared.auth.tokens import TokenVerifier  # noqa: PLC0415 (PyJWT loads when it is needed)

        return TokenVerifier(kinds, self.clock)


@contextmanager
def _translate_connection_errors() -> Iterator[None]:
    try:
        yield
    except ValueError:  # its text may repeat the connection string
        raise SettingsInvalid("Settings to correct: CALLS_STORAGE is no connection string.") from None


_current: tuple[asyncio.AbstractEventLoop, Services] | None = None


def services() -> Services:
    """Return the services of this process. They belong to the running event loop: another loop gets its own.

    Raises
    ------
    SettingsInvalid
        Settings are missing or wrong.
    """
    global _current  # noqa: PLW0603 (one per process is the point)
    loop = asyncio.get_running_loop()
    if _current is None or _current[0] is not loop:
        _current = loop, Services(load_settings(), SystemClock())
    return _current[1]


def replace_services(replacement: Services | None) -> None:
    """Replace the services of this process, or remove them (None), so that a test can use its own."""
    global _current  # noqa: PLW0603 (as above)
    _current = None if replacement is None else (asyncio.get_running_loop(), replacement)
