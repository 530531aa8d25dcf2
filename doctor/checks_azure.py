"""What only Azure knows of a deployed app, asked by `az`: its state, identity, roles, permissions and functions."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from doctor.check import check, fine
from doctor.checks_app import LACKING, NEEDED, NONE
from doctor.checks_graph import PLACE_CALLS
from doctor.checks_graph import ROLE as GRAPH_ROLE
from doctor.checks_storage import ROLE as STORAGE_ROLE
from doctor.deployment import Deployment, RoleAssignment
from doctor.finding import CannotCheck, Fault, Finding, Mark
from doctor.patient import Patient
from release import flex

STOPPED = Fault("app-stopped", "The function app is not running: no call is kept.", "Start it: az functionapp start.")
IDENTITY = Fault(
    "identity-missing",
    "The app has not the identity that its settings name.",
    "Assign the user-assigned identity to the app, and set AZURE_CLIENT_ID and CALLS_STORAGE__clientId to "
    "its client id.",
)
BREAKING = Fault(
    "flex-setting-breaking",
    "A setting breaks the app on the Flex Consumption plan: AzureWebJobsStorage, even an empty one, takes its function "
    "keys from the host; WEBSITE_RUN_FROM_PACKAGE names another package.",
    "Remove it: az functionapp config appsettings delete --setting-names NAME.",
)
FLEX = Fault(
    "flex-setting",
    "A setting is there that the Flex Consumption plan refuses, or that nothing reads there.",
    "Remove it: on Flex the runtime and the package belong to the app's configuration.",
    Mark.WARN,
)

_TABLES, _QUEUES, _BLOBS = (
    "Storage Table Data Contributor",
    "Storage Queue Data Contributor",
    "Storage Blob Data Owner",
)


@check("deployment", "Is the app running, with its identity?", STOPPED, IDENTITY, BREAKING, FLEX, deployed=True)
async def deployment(patient: Patient) -> AsyncIterator[Finding]:
    """By what `az functionapp show` says."""
    app = _deployed(patient)
    if app.state != "Running":
        yield STOPPED.found(f"its state is {app.state}")
    for name in ("AZURE_CLIENT_ID", "CALLS_STORAGE__clientId", "AzureWebJobsStorage__clientId"):
        client_id = patient.value(name)
        if client_id and app.principal(client_id) is None:
            yield IDENTITY.found(f"{name} names an identity that is not assigned to the app")
    if not app.identities:
        yield IDENTITY.found("it has no managed identity at all")
    if app.flex:
        for name in flex.among(patient.raw, flex.BREAKING_SETTINGS):
            yield BREAKING.found(f"{name} is set: {flex.BREAKING_SETTINGS[name]}")
        for name in flex.among(patient.raw, flex.REFUSED_SETTINGS):
            yield FLEX.found(f"{name} is set: {flex.REFUSED_SETTINGS[name]}")


@check("deployed functions", "Does Azure find the functions?", NONE, LACKING, deployed=True)
async def deployed_functions(patient: Patient) -> AsyncIterator[Finding]:
    """A deployment that says success proves nothing: the list does."""
    names = set(await _deployed(patient).functions())
    if not names:
        yield NONE.found("Azure lists no function of the app")
    elif lacking := sorted(NEEDED - names):
        yield LACKING.found(f"{', '.join(lacking)} not found among {len(names)}")
    else:
        yield fine("deployed functions", f"Azure lists {len(names)}")


@check("roles", "Has the identity its roles on storage?", STORAGE_ROLE, deployed=True)
async def roles(patient: Patient) -> AsyncIterator[Finding]:
    """Roles that are assigned to the identity itself; those of a group are not seen."""
    app, settings = _deployed(patient), patient.settings
    needs = [
        (_account(settings.calls_storage_table_service_uri), _TABLES),
        (_account(settings.calls_storage_queue_service_uri), _QUEUES),
    ]
    principal = app.principal(settings.calls_storage_client_id or settings.azure_client_id)
    host = patient.value("AzureWebJobsStorage__accountName")
    host = host or _account(patient.value("AzureWebJobsStorage__blobServiceUri"))
    host_principal = app.principal(patient.value("AzureWebJobsStorage__clientId"))
    for holder, wanted in ((principal, needs), (host_principal, [(host, _BLOBS)])):
        if holder is None or not any(account for account, _ in wanted):
            continue
        has = await app.roles(holder)
        for account, role in wanted:
            if account and not any(_covers(each, account, role) for each in has):
                yield STORAGE_ROLE.found(
                    f"the app's identity lacks {role} on {account}", f"Assign {role} on {account}."
                )


@check("consent", "Has the identity its permissions in Graph?", GRAPH_ROLE, deployed=True)
async def consent(patient: Patient) -> AsyncIterator[Finding]:
    """For GRAPH_CREDENTIAL=managedIdentity; with others the permissions are the bot's app registration's."""
    app, settings = _deployed(patient), patient.settings
    if settings.graph_credential != "managedIdentity":
        raise CannotCheck("the permissions are those of the bot's app registration; the token shows them")
    if not patient.in_real_cloud:
        raise CannotCheck("GRAPH_BASE_URL is not Graph's own address")
    principal = app.principal(settings.azure_client_id)
    if principal is None:
        raise CannotCheck("the app has no such identity (see identity-missing)")
    if (await app.graph_roles(principal, settings.graph_root)).isdisjoint(PLACE_CALLS.values()):
        yield GRAPH_ROLE.found("the managed identity has none of Calls.Initiate.All and its kin")


def _deployed(patient: Patient) -> Deployment:
    if patient.deployment is None:
        raise CannotCheck("it is not deployed")
    return patient.deployment


def _account(uri: str | None) -> str | None:
    """The account of `https://<account>.table.core.windows.net`."""
    host = urlsplit(uri).hostname if uri else None
    return host.partition(".")[0] if host else None


def _covers(assignment: RoleAssignment, account: str, role: str) -> bool:
    """Whether the role holds for the account: its scope is the account, or what it is in."""
    scope = assignment.scope.lower()
    names = scope.partition("/storageaccounts/")[2]
    return assignment.role_definition_name == role and (not names or names.split("/")[0] == account.lower())
