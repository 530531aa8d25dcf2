"""Scenarios for the tests: for each fault, the ways to bring it about in a healthy set-up.

`LOCAL` has the scenarios of a laptop, `DEPLOYED` of an app in Azure. A scenario changes the world or the plan; its
`__name__` becomes the test's id.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import formatdate
from ipaddress import ip_address
from time import time

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from local.stack.stack import APP_ID, ROOT
from shared.addresses import Address
from simulator.tls import self_signed
from tests.doctor.servers import Reply
from tests.doctor.world import IDENTITY, NOWHERE, ROLES, SECRET, SITE, TENANT, Plan, World, refused

type Scenario = Callable[[World, Plan], None]
type Scenarios = dict[str, list[Scenario]]

LOCAL: Scenarios = {}
DEPLOYED: Scenarios = {}
OTHER_TENANT = "99999999-1111-4222-8333-444444444444"


def scenarios(table: Scenarios) -> Iterator[tuple[str, Scenario]]:
    """Yield each fault's name with each of its scenarios."""
    for name, of_fault in table.items():
        for each in of_fault:
            yield name, each


def _scenario(name: str, table: Scenarios = LOCAL) -> Callable[[Scenario], Scenario]:
    """Return a decorator that registers a scenario of this fault."""

    def register(scenario: Scenario) -> Scenario:
        table.setdefault(name, []).append(scenario)
        return scenario

    return register


def _settings(name: str, table: Scenarios = LOCAL, /, **values: str) -> None:
    """Register a scenario that only changes settings."""

    @_scenario(name, table)
    def scenario(_world: World, plan: Plan) -> None:
        plan.settings |= values

    scenario.__name__ = " ".join(f"{name}={value or 'empty'}" for name, value in values.items())


def _answering(name: str, address: str, reply: Reply) -> None:
    """Register a scenario with a server that always sends this reply.

    `address` names the setting, or the attribute of the plan, that gets the server's address.
    """

    @_scenario(name)
    def scenario(world: World, plan: Plan) -> None:
        base = world.serve(lambda _method, _path: reply)
        if address in {"webhook", "url"}:
            setattr(plan, address, base)
        else:
            plan.settings[address] = base

    scenario.__name__ = f"{address} answers {_described(reply)}"


def _described(reply: Reply) -> str:
    content = reply.headers.get("Content-Type", "json" if reply.body else "no body")
    return f"{reply.status} {content}"


def _refused_token(name: str, code: str) -> None:
    """Register a scenario in which Entra refuses a token with this code."""

    @_scenario(name)
    def scenario(world: World, _plan: Plan) -> None:
        world.fault(operation="token", status=401, subcode="invalid_client", message=f"{code}: no. {SECRET}")

    scenario.__name__ = f"Entra answers {code}"


# --- settings ---------------------------------------------------------------------------------------------------------

_settings("setting-missing", GRAPH_APP_ID="")
_settings("setting-missing", GRAPH_CREDENTIAL="certificate")
_settings("setting-missing", CALLS_STORAGE="")
_settings("setting-missing", MANAGEMENT_AUDIENCE="api://keeper")
_settings("setting-wrong", SWEEP_BUDGET="hush-hush-another")
_settings("setting-wrong", GRAPH_CLOUD="mars")
_settings("setting-wrong", CALLS_STORAGE__tableServiceUri="https://a.example")
_settings("setting-wrong", KEEP_ALIVE_CONCURRENCY="0")
_settings("setting-wrong", RELAY_TARGETS="hush-hush-another")
_settings("setting-misspelt", GRAPH_TENANTID="hush-hush-another")
_settings("setting-misspelt", KEEPALIVE_SCHEDULE="0 */5 * * * *")
_settings("setting-example", GRAPH_APP_ID="00000000-0000-0000-0000-000000000000")
_settings("cloud-china", GRAPH_CLOUD="china")


@_scenario("cloud-mismatch")
def _government_graph(_world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_BASE_URL": "https://graph.microsoft.us", "AZURE_AUTHORITY_HOST": ""}
    plan.only = {"cloud"}  # sends no request to the real clouds


@_scenario("cloud-mismatch")
def _government_authority(_world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_BASE_URL": "", "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"}
    plan.only = {"cloud"}


# --- the timer --------------------------------------------------------------------------------------------------------

_settings("schedule-missing", KEEP_ALIVE_SCHEDULE="")
_settings("schedule-unreadable", KEEP_ALIVE_SCHEDULE="every 15 minutes")
_settings("schedule-unreadable", KEEP_ALIVE_SCHEDULE="0 0 0 31 2 *")
_settings("schedule-too-long", KEEP_ALIVE_SCHEDULE="0 0 * * * *")
_settings("schedule-too-long", KEEP_ALIVE_SCHEDULE="0 */15 8-18 * * 1-5")
_settings("schedule-too-long", KEEP_ALIVE_SCHEDULE="* * 8-18 * * *")
_settings("schedule-sparse", KEEP_ALIVE_SCHEDULE="0 */30 * * * *")
_settings("time-zone-set", WEBSITE_TIME_ZONE="Europe/Berlin")
_settings("timer-disabled", LOCAL, **{"AzureWebJobs.keep_alive_timer.Disabled": "1"})
_settings("timer-disabled", AzureWebJobs_keep_alive_timer_Disabled="true")
_settings("function-disabled", LOCAL, **{"AzureWebJobs.receive_notifications.Disabled": "true"})


@_scenario("function-disabled")
def _relay_timer_off(_world: World, plan: Plan) -> None:
    plan.settings |= relay_to("https://bot.example/calls") | {"AzureWebJobs.relay_timer.Disabled": "1"}
    plan.only = {"switches"}


@_scenario("lease-shortened")
def _real_graph(_world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_BASE_URL": "", "LEASE_DURATION": "PT30M"}
    plan.only = {"timing"}


@_scenario("function-timeout-short")
def _little_time(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(functionTimeout="00:04:00"))


@_scenario("function-timeout-long")
def _without_end(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(functionTimeout="-1"))


# --- the app's folder -------------------------------------------------------------------------------------------------


def _host_json(**changes: object) -> str:
    document = json.loads((ROOT / "host.json").read_text())
    document |= changes
    return json.dumps({name: value for name, value in document.items() if value is not None})


@_scenario("import-error")
def _missing_package(world: World, plan: Plan) -> None:
    plan.root, plan.without = world.root(function_app__py="import a_package_that_is_missing\n"), set()


@_scenario("no-functions")
def _nothing_registered(world: World, plan: Plan) -> None:
    app = "import azure.functions as func\n\napp = func.FunctionApp()\n"
    plan.root, plan.without = world.root(function_app__py=app), set()


@_scenario("functions-missing")
def _relay_forgotten(world: World, plan: Plan) -> None:
    text = (ROOT / "function_app.py").read_text()
    plan.root, plan.only = world.root(function_app__py=text.replace("has_relay_targets()", "False")), {"functions"}
    plan.without, plan.settings = set(), plan.settings | relay_to("https://bot.example/calls")


@_scenario("functions-missing")
def _blueprint_forgotten(world: World, plan: Plan) -> None:
    app = (
        "import azure.functions as func\nfrom functions import service\n\n"
        "app = func.FunctionApp()\napp.register_functions(service.blueprint)\n"
    )
    plan.root, plan.without = world.root(function_app__py=app), set()


@_scenario("python-version")
def _another_python(world: World, plan: Plan) -> None:
    plan.root = world.root(**{"__python-version": "3.11\n"})


@_scenario("host-json-wrong")
def _broken_host_json(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json='{"version": "2.0",')


@_scenario("host-json-wrong")
def _no_host_json(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=None)


@_scenario("bundle-missing")
def _no_bundle(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(extensionBundle=None))


@_scenario("queue-encoding")
def _plain_messages(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(extensions={"queues": {"messageEncoding": "none"}}))


@_scenario("route-prefix")
def _no_prefix(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(extensions={"http": {"routePrefix": ""}}))


def _requires(line: str) -> None:
    @_scenario("worker-in-requirements")
    def scenario(world: World, plan: Plan) -> None:
        plan.root = world.root(requirements__txt=f"httpx==0.28.1\nazure-functions-runtime==1.3.0\n{line}\n")

    scenario.__name__ = line


_requires("azure-functions-worker==1.2.3")
_requires("azure_functions_runtime_v1==1.2.0")
_requires("grpcio==1.70.0")
_requires("protobuf==5.29.6")


# --- storage ----------------------------------------------------------------------------------------------------------

_settings("host-storage-missing", AzureWebJobsStorage="")
_settings("host-storage-identity", AzureWebJobsStorage__clientId=IDENTITY)
_settings("host-storage-identity", AzureWebJobsStorage__credential="managedidentity")
_settings("storage-connection-wrong", CALLS_STORAGE="hush-hush-key-of-storage")


def _storage_answers(name: str, status: int, code: str) -> None:
    @_scenario(name)
    def scenario(world: World, plan: Plan) -> None:
        base = world.serve(lambda _method, _path: refused(status, code))
        plan.settings["CALLS_STORAGE"] = (
            "DefaultEndpointsProtocol=http;AccountName=keeper;AccountKey=aHVzaC1odXNoLWtleS1vZi1zdG9yYWdl;"
            f"TableEndpoint={base}/keeper;QueueEndpoint={base}/keeper;"
        )

    scenario.__name__ = f"storage answers {status} {code}"


_storage_answers("storage-role-missing", 403, "AuthorizationPermissionMismatch")
_storage_answers("storage-firewall", 403, "AuthorizationFailure")
_storage_answers("storage-key-disabled", 403, "KeyBasedAuthenticationNotPermitted")
_storage_answers("storage-key-wrong", 403, "AuthenticationFailed")
_storage_answers("storage-unreachable", 500, "InternalError")


@_scenario("storage-unreachable")
def _storage_away(world: World, plan: Plan) -> None:
    plan.settings["CALLS_STORAGE"] = (
        world.stack.storage.connection_string.replace("127.0.0.1:", "127.0.0.1:1")
        .replace(f":1{world.stack.storage.table_port}", ":9")
        .replace(f":1{world.stack.storage.queue_port}", ":9")
    )


@_scenario("storage-role-missing")
def _role_of_the_identity(world: World, plan: Plan) -> None:
    world.setenv("IDENTITY_ENDPOINT", f"{world.stack.simulator}/msi/token")
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    account = world.serve(lambda _method, _path: refused(403, "AuthorizationPermissionMismatch"), tls=True)
    uris = {"CALLS_STORAGE__tableServiceUri": account, "CALLS_STORAGE__queueServiceUri": account}
    plan.settings |= {"CALLS_STORAGE": "", **uris}


@_scenario("storage-no-identity")
def _no_identity_for_storage(world: World, plan: Plan) -> None:
    world.setenv("IDENTITY_ENDPOINT", f"{NOWHERE}/msi/token")
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    uris = {
        "CALLS_STORAGE__tableServiceUri": "https://localhost:9",
        "CALLS_STORAGE__queueServiceUri": "https://localhost:9",
    }
    plan.settings |= {"CALLS_STORAGE": "", **uris}


# --- the token --------------------------------------------------------------------------------------------------------

_refused_token("token-secret-expired", "AADSTS7000222")
_refused_token("token-app-unknown", "AADSTS7000229")
_refused_token("token-tenant-unknown", "AADSTS90002")
_refused_token("token-refused", "AADSTS53003")
_settings("authority-unreachable", AZURE_AUTHORITY_HOST="https://127.0.0.1:9")


@_scenario("token-secret-wrong")
def _secret_wrong(world: World, _plan: Plan) -> None:
    world.control("PUT", f"/apps/{APP_ID}", secret="another one")


@_scenario("token-app-unknown")
def _not_in_this_tenant(world: World, _plan: Plan) -> None:
    world.control("PUT", f"/apps/{APP_ID}", secret=SECRET, tenantIds=[OTHER_TENANT])


@_scenario("token-federation-missing")
def _no_federated_credential(world: World, plan: Plan) -> None:
    world.setenv("IDENTITY_ENDPOINT", f"{world.stack.simulator}/msi/token")
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    world.fault(operation="token", status=401, subcode="invalid_client", message="AADSTS700213: No matching record.")
    plan.settings |= {"GRAPH_CREDENTIAL": "federated"}


@_scenario("token-no-managed-identity")
def _no_identity(world: World, plan: Plan) -> None:
    no_identity = Reply(400, {}, {"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found"})
    world.setenv("IDENTITY_ENDPOINT", world.serve(lambda _method, _path: no_identity))
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    plan.settings |= {"GRAPH_CREDENTIAL": "managedIdentity"}


@_scenario("token-certificate-unreadable")
def _no_certificate(world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(world.folder / "none.pem")}


@_scenario("token-certificate-unreadable")
def _no_certificate_in_it(world: World, plan: Plan) -> None:
    path = world.folder / "empty.pem"
    path.write_text("nothing")
    plan.settings |= {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(path)}


@_scenario("token-certificate-unknown")
def _another_certificate(world: World, plan: Plan) -> None:
    sent_key, known_key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    path = world.folder / "bot.pem"
    key = sent_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + self_signed("bot", sent_key).public_bytes(Encoding.PEM))
    known = self_signed("bot", known_key).public_bytes(Encoding.PEM).decode()
    world.control("PUT", f"/apps/{APP_ID}", certificate=known)
    plan.settings |= {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(path)}


# --- Graph ------------------------------------------------------------------------------------------------------------


def _graph(name: str, **fault: str | int) -> None:
    @_scenario(name)
    def scenario(world: World, _plan: Plan) -> None:
        world.fault(operation="get", **fault)

    scenario.__name__ = " ".join(f"{name}={value}" for name, value in fault.items())


_graph("graph-no-consent", status=403, subcode=7504)
_graph("graph-tenant-mismatch", status=403, subcode=7505)
_graph("graph-forbidden", status=403, subcode=7507)
_graph("graph-token-refused", status=401)
_graph("graph-trouble", status=503)
_graph("graph-trouble", status=429, retryAfter=5)
_settings("graph-unreachable", GRAPH_BASE_URL="http://127.0.0.1:9")
_answering("graph-not-graph", "GRAPH_BASE_URL", Reply(302, {"Location": "https://a.example", "Date": formatdate()}))
_answering("graph-not-graph", "GRAPH_BASE_URL", Reply(200, {"Date": formatdate()}, {"hello": "world"}))
_answering("graph-not-graph", "GRAPH_BASE_URL", Reply(404, {"Content-Type": "text/html", "Date": formatdate()}))
_answering("graph-not-graph", "GRAPH_BASE_URL", Reply(404, {"Date": formatdate()}))
_answering("graph-not-graph", "GRAPH_BASE_URL", Reply(403, {"Date": formatdate()}, {"message": "no Route matched"}))


@_scenario("graph-role-missing")
def _no_role(world: World, _plan: Plan) -> None:
    world.control("PUT", f"/apps/{APP_ID}", secret=SECRET, roles=["User.Read.All"])


@_scenario("graph-tls")
def _graph_untrusted(world: World, plan: Plan) -> None:
    plan.settings["GRAPH_BASE_URL"] = world.serve(
        lambda _method, _path: Reply(404), identity=world.folder / "untrusted.pem"
    )


def _clock_skewed_by(seconds: int) -> None:
    @_scenario("clock-skewed")
    def scenario(world: World, plan: Plan) -> None:
        error = {"error": {"code": "8522", "message": "Call not found."}}
        graph_headers = {"request-id": "5d0b1a44-6c0f-4f0e-9d3c-2b8a7c1e6f90"}
        plan.settings["GRAPH_BASE_URL"] = world.serve(
            lambda _method, _path: Reply(
                404, graph_headers | {"Date": formatdate(time() + seconds, usegmt=True)}, error
            )
        )

    scenario.__name__ = f"by {seconds} s"


_clock_skewed_by(90)  # more than MAX_CLOCK_SKEW of 60 s and the second of the header
_clock_skewed_by(-600)

# --- inbound tokens and the webhook -----------------------------------------------------------------------------------

_settings("audience-wrong", NOTIFICATION_AUDIENCES=f"api://{APP_ID},{OTHER_TENANT}")
_settings("issuer-missing", NOTIFICATION_ISSUERS="https://graph.microsoft.com")
_settings("keys-unreachable", NOTIFICATION_METADATA_URLS=f"{NOWHERE}/v1/.well-known/OpenIdConfiguration")
_settings(
    "management-keys-unreachable",
    MANAGEMENT_AUDIENCE="api://keeper",
    MANAGEMENT_TENANT_ID=TENANT,
    MANAGEMENT_METADATA_URL=NOWHERE,
)
_answering("keys-unreachable", "NOTIFICATION_METADATA_URLS", Reply(200, {}, {"jwks_uri": "ftp://a.example"}))
_answering("keys-unreachable", "NOTIFICATION_METADATA_URLS", Reply(503))


@_scenario("keys-unreachable")
def _no_entra_keys(world: World, _plan: Plan) -> None:
    world.fault(operation="keys", status=503)


_answering("webhook-not-found", "webhook", Reply(404))
_answering("webhook-redirects", "webhook", Reply(308, {"Location": "https://a.example"}))
_answering("webhook-guarded", "webhook", Reply(401, {"WWW-Authenticate": 'Bearer realm="a.example"'}))
_answering("webhook-guarded", "webhook", Reply(403))
_answering("webhook-not-ours", "webhook", Reply(200))
_answering("webhook-broken", "webhook", Reply(500))
_answering("host-unreachable", "url", Reply(200, {}, {"hello": "world"}))


@_scenario("webhook-not-https")
def _plain_webhook(_world: World, plan: Plan) -> None:
    plan.webhook = "http://keeper.example/api/notifications"


@_scenario("webhook-unreachable")
def _webhook_away(_world: World, plan: Plan) -> None:
    plan.webhook = f"{NOWHERE}/api/notifications"


@_scenario("webhook-tls")
def _webhook_untrusted(world: World, plan: Plan) -> None:
    plan.webhook = world.serve(lambda _method, _path: Reply(401), identity=world.folder / "untrusted.pem")


@_scenario("host-unreachable")
def _host_away(_world: World, plan: Plan) -> None:
    plan.url = NOWHERE


def _health(name: str, status: str, code: int, **checks: str) -> None:
    body = {"status": status, "checks": checks, "version": "0.1.0"}
    _answering(name, "url", Reply(code, {}, body))


_health("host-unhealthy", "unhealthy", 503, settings="Settings to correct: GRAPH_APP_ID is missing.")
_health("host-degraded", "degraded", 200, settings="ok", sweeps="3 of 16 shards were not swept for 30 minutes")


# --- the relay --------------------------------------------------------------------------------------------------------

_settings("setting-wrong", RELAY_TARGETS="hush-hush-another")
_settings("setting-wrong", RELAY_BUDGET="PT11S")


def relay_to(url: str, **members: str) -> dict[str, str]:
    """Return the settings of a relay to this address."""
    target = {"name": "bot", "url": url, "format": "graph"} | members
    return {"RELAY_TARGETS": json.dumps([target])}


def _bot_answers(name: str, status: int, **members: str) -> None:
    @_scenario(name)
    def scenario(world: World, plan: Plan) -> None:
        plan.settings |= relay_to(world.serve(lambda _method, _path: Reply(status), tls=True), **members)

    scenario.__name__ = f"a target answers {status}"


_bot_answers("relay-open", 200)
_bot_answers("relay-open", 202, format="events", audience=APP_ID)
_bot_answers("relay-answer", 302)
_bot_answers("relay-answer", 404)
_bot_answers("relay-answer", 400)
_bot_answers("relay-answer", 500)


@_scenario("relay-unreachable")
def _bot_away(_world: World, plan: Plan) -> None:
    plan.settings |= relay_to("https://localhost:9")


@_scenario("relay-unreachable")
def _bot_without_address(_world: World, plan: Plan) -> None:
    plan.settings |= relay_to("https://bot.invalid/calls")


@_scenario("relay-tls")
def _bot_untrusted(world: World, plan: Plan) -> None:
    untrusted = world.folder / "untrusted.pem"
    plan.settings |= relay_to(world.serve(lambda _method, _path: Reply(401), identity=untrusted))


@_scenario("relay-certificate-expires")
def _bot_with_a_certificate_of_a_month(world: World, plan: Plan) -> None:
    world.patch("doctor.checks_relay.MIN_CERTIFICATE_LIFE", timedelta(days=30 + 1))
    plan.settings |= relay_to(world.serve(lambda _method, _path: Reply(401), tls=True))


def _bot_at(address: str, **settings: str) -> None:
    """Register a scenario of a target whose name leads to this address."""

    @_scenario("relay-address-refused")
    def scenario(world: World, plan: Plan) -> None:
        async def resolve(_host: str) -> tuple[Address, ...]:
            return (ip_address("93.184.215.14"), ip_address(address))

        world.patch("doctor.checks_relay.resolve", resolve)
        plan.settings |= relay_to("https://bot.example/calls") | settings

    scenario.__name__ = f"a name that also leads to {address}"


_bot_at("10.0.0.5")
_bot_at("::ffff:127.0.0.1")
_bot_at("169.254.169.254", RELAY_ALLOW_PRIVATE_ADDRESSES="true")


def _no_token_for(audience: str, reason: str, /, **members: str) -> None:
    """Register a scenario of a target for whose audience Entra issues no token."""

    @_scenario("relay-token-missing")
    def scenario(world: World, plan: Plan) -> None:
        world.control("PUT", f"/apps/{APP_ID}", secret=SECRET, refusedAudiences={audience: reason})
        plan.settings |= relay_to(world.serve(lambda _method, _path: Reply(401), tls=True), **members)

    scenario.__name__ = f"Entra answers {reason}"


_no_token_for(APP_ID, "assignmentRequired")
_no_token_for("api://tickets", "notFound", format="events", audience="api://tickets")


# --- records in storage -----------------------------------------------------------------------------------------------


@_scenario("sweep-stale")
def _no_sweep_for_long(world: World, plan: Plan) -> None:
    world.set_watermarks(timedelta(minutes=30 + 1))  # at risk after 30 minutes
    plan.url, plan.without = None, plan.without | {"health"}  # the running host would report it too: host-degraded


@_scenario("sweep-never")
def _no_sweep_at_all(world: World, plan: Plan) -> None:
    world.set_watermarks(None)
    plan.url, plan.without = None, plan.without | {"health"}


@_scenario("poison-waiting")
def _poison(world: World, _plan: Plan) -> None:
    world.add_poison_message("keep-alive-poison")


@_scenario("poison-waiting")
def _poison_of_the_relay(world: World, _plan: Plan) -> None:
    world.add_poison_message("relay-poison")


@_scenario("lease-lapsed")
def _lapsed(world: World, _plan: Plan) -> None:
    world.end_a_call(408, 8537)


# --- in Azure ---------------------------------------------------------------------------------------------------------


@_scenario("storage-by-key", DEPLOYED)
def _connection_string_on_another_plan_than_flex(world: World, plan: Plan) -> None:
    plan.settings["AzureWebJobsStorage"] = "AccountName=a;AccountKey=hush-hush-key-of-storage"
    world.az.answer("functionapp show", SITE | {"functionAppConfig": None, "siteConfig": {"linuxFxVersion": "P|3.13"}})


_settings(
    "management-audience-missing", DEPLOYED, MANAGEMENT_AUDIENCE="", MANAGEMENT_TENANT_ID="", MANAGEMENT_METADATA_URL=""
)
_settings("flex-setting-breaking", DEPLOYED, AzureWebJobsStorage="AccountName=a;AccountKey=hush-hush-key-of-storage")
_settings("flex-setting-breaking", DEPLOYED, AzureWebJobsStorage="")
_settings("flex-setting-breaking", DEPLOYED, WEBSITE_RUN_FROM_PACKAGE="1")
_settings("flex-setting", DEPLOYED, FUNCTIONS_WORKER_RUNTIME="python")
_settings("setting-missing", DEPLOYED, GRAPH_APP_ID="")
_settings("schedule-missing", DEPLOYED, KEEP_ALIVE_SCHEDULE="")


def _site(name: str, /, **changes: object) -> None:
    @_scenario(name, DEPLOYED)
    def scenario(world: World, _plan: Plan) -> None:
        world.az.answer("functionapp show", SITE | changes)

    scenario.__name__ = f"{', '.join(changes)} of the app"


_site("app-stopped", state="Stopped")
_site("identity-missing", identity=None)
_site("python-version", functionAppConfig={"runtime": {"name": "python", "version": "3.11"}})
_site("host-id-long", name="call-keeper-production-west-europe-one")


@_scenario("no-functions", DEPLOYED)
def _azure_finds_nothing(world: World, _plan: Plan) -> None:
    world.az.answer("functionapp function list", [])


@_scenario("functions-missing", DEPLOYED)
def _azure_finds_none_of_the_relay(_world: World, plan: Plan) -> None:
    plan.settings |= relay_to("https://bot.example/calls")
    plan.only = {"deployed functions"}


@_scenario("functions-missing", DEPLOYED)
def _azure_finds_few(world: World, _plan: Plan) -> None:
    world.az.answer("functionapp function list", [{"name": "keeper/keep_alive_now"}])


@_scenario("storage-role-missing", DEPLOYED)
def _role_not_assigned(world: World, _plan: Plan) -> None:
    world.az.answer("role assignment list", ROLES[1:])


@_scenario("storage-role-missing", DEPLOYED)
def _role_on_another_account(world: World, _plan: Plan) -> None:
    other = {"roleDefinitionName": "Storage Table Data Contributor", "scope": "/a/storageAccounts/another"}
    world.az.answer("role assignment list", [other, *ROLES[1:]])


@_scenario("storage-role-missing", DEPLOYED)
def _role_on_the_hosts_account_by_its_address(world: World, plan: Plan) -> None:
    by_address = {"AzureWebJobsStorage__blobServiceUri": "https://hostaccount.blob.core.usgovcloudapi.net"}
    plan.settings |= {"AzureWebJobsStorage__accountName": "", **by_address}
    world.az.answer("role assignment list", ROLES[:2])


@_scenario("graph-role-missing", DEPLOYED)
def _permission_not_granted(world: World, plan: Plan) -> None:
    world.az.answer("rest", {"value": []})
    plan.settings |= {"GRAPH_BASE_URL": ""}
    plan.only = {"consent"}  # sends no request to the real Graph
