"""Checks of a deployed app by `az`: its state, identity, roles, permissions and functions."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from doctor.check import check, note
from doctor.checks_app import MISSING, NONE, missing_functions
from doctor.checks_graph import CALL_PERMISSIONS
from doctor.checks_graph import ROLE as GRAPH_ROLE
from doctor.checks_storage import ROLE as STORAGE_ROLE
from doctor.deployment import Deployment, RoleAssignment
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.target import Target
from release import flex

STOPPED = Fault(
    "app-stopped", "The function app is not running, so no call is renewed.", "Start it: az functionapp start."
)
IDENTITY = Fault(
    "identity-missing",
    "The app does not have the identity that its settings name.",
    "Assign the user-assigned identity to the app, and set AZURE_CLIENT_ID and CALLS_STORAGE__clientId to "
    "its client id.",
)
BREAKING = Fault(
    "flex-setting-breaking",
    "A setting breaks the app on the Flex Consumption plan. With AzureWebJobsStorage, even an empty one, the host "
    "loses its function keys. WEBSITE_RUN_FROM_PACKAGE names another package.",
    "Remove it: az functionapp config appsettings delete --setting-names NAME.",
)
FLEX = Fault(
    "flex-setting",
    "The Flex Consumption plan refuses a setting, or ignores it.",
    "Remove it: on Flex the runtime and the package are part of the app's configuration.",
    Severity.WARN,
)

_TABLES, _QUEUES, _BLOBS = (
    "Storage Table Data Contributor",
    "Storage Queue Data Contributor",
    "Storage Blob Data Owner",
)


@check(
    "deployment",
    "Is the app running, and does it have its identity?",
    STOPPED,
    IDENTITY,
    BREAKING,
    FLEX,
    deployed_only=True,
)
async def deployment(target: Target) -> AsyncIterator[Finding]:
    """Check what `az functionapp show` prints."""
    app = _deployed(target)
    if app.state != "Running":
        yield STOPPED.found(f"the app's state is {app.state}")
    for name in ("AZURE_CLIENT_ID", "CALLS_STORAGE__clientId", "AzureWebJobsStorage__clientId"):
        client_id = target.value(name)
        if client_id and app.principal(client_id) is None:
            yield IDENTITY.found(f"{name} names an identity that is not assigned to the app")
    if not app.identities:
        yield IDENTITY.found("the app has no managed identity")
    if app.flex:
        for name in flex.among(target.raw, flex.BREAKING_SETTINGS):
            yield BREAKING.found(f"{name} is set: {flex.BREAKING_SETTINGS[name]}")
        for name in flex.among(target.raw, flex.REFUSED_SETTINGS):
            yield FLEX.found(f"{name} is set: {flex.REFUSED_SETTINGS[name]}")


@check("deployed functions", "Does Azure find the functions?", NONE, MISSING, deployed_only=True)
async def deployed_functions(target: Target) -> AsyncIterator[Finding]:
    """List the functions: a deployment may report success and have none."""
    names = set(await _deployed(target).functions())
    if not names:
        yield NONE.found("Azure lists no function for the app")
    elif missing := missing_functions(target, names):
        yield MISSING.found(f"{', '.join(missing)} not found among {len(names)}")
    else:
        yield note("deployed functions", f"Azure lists {len(names)}")


@check("roles", "Does the identity have its roles on storage?", STORAGE_ROLE, deployed_only=True)
async def roles(target: Target) -> AsyncIterator[Finding]:
    """Check the roles that are assigned to the identity itself. Roles of a group are not seen."""
    app, settings = _deployed(target), target.settings
    needs = [
        (_account(settings.calls_storage_table_service_uri), _TABLES),
        (_account(settings.calls_storage_queue_service_uri), _QUEUES),
    ]
    principal = app.principal(settings.calls_storage_client_id or settings.azure_client_id)
    host = target.value("AzureWebJobsStorage__accountName")
    host = host or _account(target.value("AzureWebJobsStorage__blobServiceUri"))
    host_principal = app.principal(target.value("AzureWebJobsStorage__clientId"))
    for holder, wanted in ((principal, needs), (host_principal, [(host, _BLOBS)])):
        if holder is None or not any(account for account, _ in wanted):
            continue
        has = await app.roles(holder)
        for account, role in wanted:
            if account and not any(_covers(each, account, role) for each in has):
                yield STORAGE_ROLE.found(
                    f"the app's identity lacks {role} on {account}", f"Assign {role} on {account}."
                )


@check("consent", "Does the identity have its permissions in Graph?", GRAPH_ROLE, deployed_only=True)
async def consent(target: Target) -> AsyncIterator[Finding]:
    """Check the app roles of the managed identity.

    With other values of GRAPH_CREDENTIAL, the permissions are those of the bot's app registration.
    """
    app, settings = _deployed(target), target.settings
    if settings.graph_credential != "managedIdentity":
        raise CannotCheck("the permissions are those of the bot's app registration, and its token shows them")
    if not target.in_real_cloud:
        raise CannotCheck("GRAPH_BASE_URL is not Graph's own address")
    principal = app.principal(settings.azure_client_id)
    if principal is None:
        raise CannotCheck("the app does not have this identity (see identity-missing)")
    if (await app.graph_roles(principal, settings.graph_root)).isdisjoint(CALL_PERMISSIONS.values()):
        yield GRAPH_ROLE.found(f"the managed identity has none of {', '.join(CALL_PERMISSIONS)}")


def _deployed(target: Target) -> Deployment:
    if target.deployment is None:
        raise CannotCheck("the app is not deployed")
    return target.deployment


def _account(uri: str | None) -> str | None:
    """Return the account of an address such as `https://<account>.table.core.windows.net`."""
    host = urlsplit(uri).hostname if uri else None
    return host.partition(".")[0] if host else None


def _covers(assignment: RoleAssignment, account: str, role: str) -> bool:
    """True if the assignment gives this role on the account: its scope is the account, or a group that contains it."""
    scope = assignment.scope.lower()
    names = scope.partition("/storageaccounts/")[2]
    return assignment.role_definition_name == role and (not names or names.split("/")[0] == account.lower())
