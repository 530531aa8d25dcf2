"""Faults, each with the ways to bring it about in a healthy set-up."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import formatdate
from time import time

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from local.stack.stack import APP_ID, ROOT
from simulator.tls import self_signed
from tests.doctor.servers import Reply
from tests.doctor.world import IDENTITY, NOWHERE, ROLES, SECRET, SITE, TENANT, Plan, World, refused

type Seed = Callable[[World, Plan], None]
type Seeds = dict[str, list[Seed]]

LOCAL: Seeds = {}
DEPLOYED: Seeds = {}
OTHER = "99999999-1111-4222-8333-444444444444"


def seeds(table: Seeds) -> Iterator[tuple[str, Seed]]:
    for name, some in table.items():
        for each in some:
            yield name, each


def _seed(name: str, table: Seeds = LOCAL) -> Callable[[Seed], Seed]:
    def keep(seed: Seed) -> Seed:
        table.setdefault(name, []).append(seed)
        return seed

    return keep


def _settings(name: str, table: Seeds = LOCAL, /, **values: str) -> None:
    """A fault of settings alone."""

    @_seed(name, table)
    def seed(_world: World, plan: Plan) -> None:
        plan.settings |= values

    seed.__name__ = "_".join(values)


def _answering(name: str, place: str, reply: Reply, **settings: str) -> None:
    """A fault of what answers: a server at the place that this attribute, or setting, of the plan names."""

    @_seed(name)
    def seed(world: World, plan: Plan) -> None:
        base = world.serve(lambda _method, _path: reply)
        plan.settings |= settings
        if place in {"webhook", "url"}:
            setattr(plan, place, base)
        else:
            plan.settings[place] = base

    seed.__name__ = f"{place} {reply.status}"


def _refused_token(name: str, code: str) -> None:
    @_seed(name)
    def seed(world: World, _plan: Plan) -> None:
        world.fault(operation="token", status=401, subcode="invalid_client", message=f"{code}: no. {SECRET}")

    seed.__name__ = code


# --- settings -------------------------------------------------------------------------------------------------------

_settings("setting-missing", GRAPH_APP_ID="")
_settings("setting-missing", GRAPH_CREDENTIAL="certificate")
_settings("setting-missing", CALLS_STORAGE="")
_settings("setting-missing", MANAGEMENT_AUDIENCE="api://keeper")
_settings("setting-wrong", SWEEP_BUDGET="hush-hush-another")
_settings("setting-wrong", GRAPH_CLOUD="mars")
_settings("setting-wrong", CALLS_STORAGE__tableServiceUri="https://a.example")
_settings("setting-wrong", KEEP_ALIVE_CONCURRENCY="0")
_settings("setting-misspelt", GRAPH_TENANTID="hush-hush-another")
_settings("setting-misspelt", KEEPALIVE_SCHEDULE="0 */5 * * * *")
_settings("setting-example", GRAPH_APP_ID="00000000-0000-0000-0000-000000000000")
_settings("cloud-china", GRAPH_CLOUD="china")


@_seed("cloud-mismatch")
def _government_graph(_world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_BASE_URL": "https://graph.microsoft.us", "AZURE_AUTHORITY_HOST": ""}
    plan.only = {"cloud"}  # nothing is asked of the real clouds


@_seed("cloud-mismatch")
def _government_authority(_world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_BASE_URL": "", "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"}
    plan.only = {"cloud"}


# --- the timer ------------------------------------------------------------------------------------------------------

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


@_seed("lease-shortened")
def _real_graph(_world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_BASE_URL": "", "LEASE_DURATION": "PT30M"}
    plan.only = {"timing"}


@_seed("function-timeout-short")
def _little_time(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(functionTimeout="00:04:00"))


@_seed("function-timeout-long")
def _without_end(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(functionTimeout="-1"))


# --- the app's folder -----------------------------------------------------------------------------------------------


def _host_json(**changes: object) -> str:
    document = json.loads((ROOT / "host.json").read_text())
    document |= changes
    return json.dumps({name: value for name, value in document.items() if value is not None})


@_seed("import-error")
def _missing_package(world: World, plan: Plan) -> None:
    plan.root, plan.without = world.root(function_app__py="import a_package_that_is_missing\n"), set()


@_seed("no-functions")
def _nothing_registered(world: World, plan: Plan) -> None:
    app = "import azure.functions as func\n\napp = func.FunctionApp()\n"
    plan.root, plan.without = world.root(function_app__py=app), set()


@_seed("functions-missing")
def _blueprint_forgotten(world: World, plan: Plan) -> None:
    app = (
        "import azure.functions as func\nfrom functions import service\n\n"
        "app = func.FunctionApp()\napp.register_functions(service.blueprint)\n"
    )
    plan.root, plan.without = world.root(function_app__py=app), set()


@_seed("python-version")
def _another_python(world: World, plan: Plan) -> None:
    plan.root = world.root(**{"__python-version": "3.11\n"})


@_seed("host-json-wrong")
def _broken_host_json(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json='{"version": "2.0",')


@_seed("host-json-wrong")
def _no_host_json(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=None)


@_seed("bundle-missing")
def _no_bundle(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(extensionBundle=None))


@_seed("queue-encoding")
def _plain_messages(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(extensions={"queues": {"messageEncoding": "none"}}))


@_seed("route-prefix")
def _no_prefix(world: World, plan: Plan) -> None:
    plan.root = world.root(host__json=_host_json(extensions={"http": {"routePrefix": ""}}))


def _required(line: str) -> None:
    @_seed("worker-in-requirements")
    def seed(world: World, plan: Plan) -> None:
        plan.root = world.root(requirements__txt=f"httpx==0.28.1\nazure-functions-runtime==1.3.0\n{line}\n")

    seed.__name__ = line


_required("azure-functions-worker==1.2.3")
_required("azure_functions_runtime_v1==1.2.0")
_required("grpcio==1.70.0")
_required("protobuf==5.29.6")


# --- storage --------------------------------------------------------------------------------------------------------

_settings("host-storage-missing", AzureWebJobsStorage="")
_settings("host-storage-identity", AzureWebJobsStorage__clientId=IDENTITY)
_settings("host-storage-identity", AzureWebJobsStorage__credential="managedidentity")
_settings("storage-connection-wrong", CALLS_STORAGE="hush-hush-key-of-storage")


def _storage(name: str, status: int, code: str) -> None:
    @_seed(name)
    def seed(world: World, plan: Plan) -> None:
        base = world.serve(lambda _method, _path: refused(status, code))
        plan.settings["CALLS_STORAGE"] = (
            "DefaultEndpointsProtocol=http;AccountName=keeper;AccountKey=aHVzaC1odXNoLWtleS1vZi1zdG9yYWdl;"
            f"TableEndpoint={base}/keeper;QueueEndpoint={base}/keeper;"
        )

    seed.__name__ = code


_storage("storage-role-missing", 403, "AuthorizationPermissionMismatch")
_storage("storage-firewall", 403, "AuthorizationFailure")
_storage("storage-key-disabled", 403, "KeyBasedAuthenticationNotPermitted")
_storage("storage-key-wrong", 403, "AuthenticationFailed")
_storage("storage-unreachable", 500, "InternalError")


@_seed("storage-unreachable")
def _storage_away(world: World, plan: Plan) -> None:
    plan.settings["CALLS_STORAGE"] = (
        world.stack.storage.connection_string.replace("127.0.0.1:", "127.0.0.1:1")
        .replace(f":1{world.stack.storage.table_port}", ":9")
        .replace(f":1{world.stack.storage.queue_port}", ":9")
    )


@_seed("storage-role-missing")
def _role_of_the_identity(world: World, plan: Plan) -> None:
    world.setenv("IDENTITY_ENDPOINT", f"{world.stack.simulator}/msi/token")
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    account = world.serve(lambda _method, _path: refused(403, "AuthorizationPermissionMismatch"), tls=True)
    uris = {"CALLS_STORAGE__tableServiceUri": account, "CALLS_STORAGE__queueServiceUri": account}
    plan.settings |= {"CALLS_STORAGE": "", **uris}


@_seed("storage-no-identity")
def _no_identity_for_storage(world: World, plan: Plan) -> None:
    world.setenv("IDENTITY_ENDPOINT", f"{NOWHERE}/msi/token")
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    uris = {
        "CALLS_STORAGE__tableServiceUri": "https://localhost:9",
        "CALLS_STORAGE__queueServiceUri": "https://localhost:9",
    }
    plan.settings |= {"CALLS_STORAGE": "", **uris}


# --- the token ------------------------------------------------------------------------------------------------------

_refused_token("token-secret-expired", "AADSTS7000222")
_refused_token("token-app-unknown", "AADSTS7000229")
_refused_token("token-tenant-unknown", "AADSTS90002")
_refused_token("token-refused", "AADSTS53003")
_settings("authority-unreachable", AZURE_AUTHORITY_HOST="https://127.0.0.1:9")


@_seed("token-secret-wrong")
def _secret_wrong(world: World, _plan: Plan) -> None:
    world.control("PUT", f"/apps/{APP_ID}", secret="another one")


@_seed("token-app-unknown")
def _not_in_this_tenant(world: World, _plan: Plan) -> None:
    world.control("PUT", f"/apps/{APP_ID}", secret=SECRET, tenantIds=[OTHER])


@_seed("token-federation-missing")
def _no_federated_credential(world: World, plan: Plan) -> None:
    world.setenv("IDENTITY_ENDPOINT", f"{world.stack.simulator}/msi/token")
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    world.fault(operation="token", status=401, subcode="invalid_client", message="AADSTS700213: No matching record.")
    plan.settings |= {"GRAPH_CREDENTIAL": "federated"}


@_seed("token-no-managed-identity")
def _no_identity(world: World, plan: Plan) -> None:
    none = Reply(400, {}, {"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found"})
    world.setenv("IDENTITY_ENDPOINT", world.serve(lambda _method, _path: none))
    world.setenv("IDENTITY_HEADER", "hush-hush-another")
    plan.settings |= {"GRAPH_CREDENTIAL": "managedIdentity"}


@_seed("token-certificate-unreadable")
def _no_certificate(world: World, plan: Plan) -> None:
    plan.settings |= {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(world.folder / "none.pem")}


@_seed("token-certificate-unreadable")
def _no_certificate_in_it(world: World, plan: Plan) -> None:
    path = world.folder / "empty.pem"
    path.write_text("nothing")
    plan.settings |= {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(path)}


@_seed("token-certificate-unknown")
def _another_certificate(world: World, plan: Plan) -> None:
    ours, theirs = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    path = world.folder / "bot.pem"
    key = ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + self_signed("bot", ours).public_bytes(Encoding.PEM))
    known = self_signed("bot", theirs).public_bytes(Encoding.PEM).decode()
    world.control("PUT", f"/apps/{APP_ID}", certificate=known)
    plan.settings |= {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(path)}


# --- Graph ----------------------------------------------------------------------------------------------------------


def _graph(name: str, **fault: str | int) -> None:
    @_seed(name)
    def seed(world: World, _plan: Plan) -> None:
        world.fault(operation="get", **fault)

    seed.__name__ = "_".join(map(str, fault.values()))


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


@_seed("graph-role-missing")
def _no_role(world: World, _plan: Plan) -> None:
    world.control("PUT", f"/apps/{APP_ID}", secret=SECRET, roles=["User.Read.All"])


@_seed("graph-tls")
def _graph_untrusted(world: World, plan: Plan) -> None:
    plan.settings["GRAPH_BASE_URL"] = world.serve(
        lambda _method, _path: Reply(404), identity=world.folder / "stranger.pem"
    )


def _clock(seconds: int) -> None:
    @_seed("clock-skewed")
    def seed(world: World, plan: Plan) -> None:
        error = {"error": {"code": "8522", "message": "Call not found."}}
        marks = {"request-id": "5d0b1a44-6c0f-4f0e-9d3c-2b8a7c1e6f90"}
        plan.settings["GRAPH_BASE_URL"] = world.serve(
            lambda _method, _path: Reply(404, marks | {"Date": formatdate(time() + seconds, usegmt=True)}, error)
        )

    seed.__name__ = f"by {seconds} s"


_clock(90)
_clock(-600)

# --- what comes in --------------------------------------------------------------------------------------------------

_settings("audience-wrong", NOTIFICATION_AUDIENCES=f"api://{APP_ID},{OTHER}")
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


@_seed("keys-unreachable")
def _no_entra_keys(world: World, _plan: Plan) -> None:
    world.fault(operation="keys", status=503)


_answering("webhook-not-found", "webhook", Reply(404))
_answering("webhook-redirects", "webhook", Reply(308, {"Location": "https://a.example"}))
_answering("webhook-guarded", "webhook", Reply(401, {"WWW-Authenticate": 'Bearer realm="a.example"'}))
_answering("webhook-guarded", "webhook", Reply(403))
_answering("webhook-not-ours", "webhook", Reply(200))
_answering("webhook-broken", "webhook", Reply(500))
_answering("host-unreachable", "url", Reply(200, {}, {"hello": "world"}))


@_seed("webhook-not-https")
def _plain_webhook(_world: World, plan: Plan) -> None:
    plan.webhook = "http://keeper.example/api/notifications"


@_seed("webhook-unreachable")
def _webhook_away(_world: World, plan: Plan) -> None:
    plan.webhook = f"{NOWHERE}/api/notifications"


@_seed("webhook-tls")
def _webhook_untrusted(world: World, plan: Plan) -> None:
    plan.webhook = world.serve(lambda _method, _path: Reply(401), identity=world.folder / "stranger.pem")


@_seed("host-unreachable")
def _host_away(_world: World, plan: Plan) -> None:
    plan.url = NOWHERE


def _health(name: str, status: str, code: int, **checks: str) -> None:
    body = {"status": status, "checks": checks, "version": "0.1.0"}
    _answering(name, "url", Reply(code, {}, body))


_health("host-unhealthy", "unhealthy", 503, settings="Settings to correct: GRAPH_APP_ID is missing.")
_health("host-degraded", "degraded", 200, settings="ok", sweeps="3 of 16 shards were not swept for 30 minutes")

# --- what is on record ----------------------------------------------------------------------------------------------


@_seed("sweep-stale")
def _no_sweep_for_long(world: World, plan: Plan) -> None:
    world.watermarks(timedelta(minutes=31))
    plan.url, plan.without = None, plan.without | {"health"}  # the host itself says so too: host-degraded


@_seed("sweep-never")
def _no_sweep_at_all(world: World, plan: Plan) -> None:
    world.watermarks(None)
    plan.url, plan.without = None, plan.without | {"health"}


@_seed("poison-waiting")
def _poison(world: World, _plan: Plan) -> None:
    world.poison()


@_seed("lease-lapsed")
def _lapsed(world: World, _plan: Plan) -> None:
    world.end_a_call(408, 8537)


# --- in Azure -------------------------------------------------------------------------------------------------------


@_seed("storage-by-key", DEPLOYED)
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
    @_seed(name, DEPLOYED)
    def seed(world: World, _plan: Plan) -> None:
        world.az.answer("functionapp show", SITE | changes)

    seed.__name__ = "_".join(changes)


_site("app-stopped", state="Stopped")
_site("identity-missing", identity=None)
_site("python-version", functionAppConfig={"runtime": {"name": "python", "version": "3.11"}})
_site("host-id-long", name="call-keeper-production-west-europe-one")


@_seed("no-functions", DEPLOYED)
def _azure_finds_nothing(world: World, _plan: Plan) -> None:
    world.az.answer("functionapp function list", [])


@_seed("functions-missing", DEPLOYED)
def _azure_finds_few(world: World, _plan: Plan) -> None:
    world.az.answer("functionapp function list", [{"name": "keeper/keep_alive_now"}])


@_seed("storage-role-missing", DEPLOYED)
def _role_not_assigned(world: World, _plan: Plan) -> None:
    world.az.answer("role assignment list", ROLES[1:])


@_seed("storage-role-missing", DEPLOYED)
def _role_on_another_account(world: World, _plan: Plan) -> None:
    other = {"roleDefinitionName": "Storage Table Data Contributor", "scope": "/a/storageAccounts/another"}
    world.az.answer("role assignment list", [other, *ROLES[1:]])


@_seed("storage-role-missing", DEPLOYED)
def _role_on_the_hosts_account_by_its_address(world: World, plan: Plan) -> None:
    by_address = {"AzureWebJobsStorage__blobServiceUri": "https://hostaccount.blob.core.usgovcloudapi.net"}
    plan.settings |= {"AzureWebJobsStorage__accountName": "", **by_address}
    world.az.answer("role assignment list", ROLES[:2])


@_seed("graph-role-missing", DEPLOYED)
def _permission_not_granted(world: World, plan: Plan) -> None:
    world.az.answer("rest", {"value": []})
    plan.settings |= {"GRAPH_BASE_URL": ""}
    plan.only = {"consent"}  # nothing is asked of Graph itself
