"""Creates what a pipeline needs in Azure: resource groups, identities, federated credentials, role assignments."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.commands import CommandError, Json, Steps, as_object, find_json, objects, run, run_json
from infra.directory import CLOUDS

AUDIENCES = {  # the audience of a federated credential, by the cloud's name in az
    "AzureCloud": CLOUDS["global"].audience,
    "AzureUSGovernment": CLOUDS["usgov-l4"].audience,
}
# The providers of the templates. AlertsManagement is in none of them: Application Insights itself creates a rule there.
PROVIDERS = (
    *("AlertsManagement", "App", "Authorization", "Insights", "ManagedIdentity"),
    *("Network", "OperationalInsights", "Storage", "Web"),
)
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"  # built-in role of Azure
ACCESS_ADMINISTRATOR = "f58310d9-a9f6-439a-9e8d-f62e7b41a168"  # built-in role Role Based Access Control Administrator
WHAT_IF = "Call Keeper what-if"
LOCKS = "Call Keeper locks"
CUSTOM_ROLES = {  # actions by the beginning of the role's name, see `role_name`
    WHAT_IF: (
        "*/read",
        "Microsoft.Resources/deployments/validate/action",
        "Microsoft.Resources/deployments/whatIf/action",
    ),
    LOCKS: ("Microsoft.Authorization/locks/*",),  # the built-in roles above may not write locks
}
_ROLES = Path(__file__).parent / "modules" / "roles.bicep"
_ROLE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CREDENTIAL_NAME = "github"


@dataclass(frozen=True)
class Account:
    """The subscription that `az` is signed in to."""

    subscription: str
    tenant: str
    cloud: str

    @property
    def audience(self) -> str:
        """The audience that GitHub's tokens must have, so that this cloud accepts them."""
        return AUDIENCES[self.cloud]

    def group(self, name: str) -> str:
        """Return the resource id of a group."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{name}"


@dataclass(frozen=True)
class Identity:
    """A managed identity. If a dry run would create it, its ids are placeholders."""

    name: str
    group: str
    client: str
    principal: str


def read_account() -> Account:
    """Return the subscription that az is signed in to.

    Raises
    ------
    CommandError
        az is not signed in, or its cloud has no calls API of Graph.
    """
    shown = as_object(run_json("az", "account", "show", "--output", "json"))
    cloud = str(shown.get("environmentName"))
    if cloud not in AUDIENCES:
        raise CommandError(f"Graph has no calls API in the cloud {cloud}: az cloud set --name {' or '.join(AUDIENCES)}")
    return Account(str(shown["id"]), str(shown["tenantId"]), cloud)


def register_providers(steps: Steps) -> None:
    """Register the resource providers that the subscription lacks.

    A pipeline has rights only in its resource group, so it could not register them itself.
    """
    query = "[?registrationState=='Registered'].namespace"
    listed = run_json("az", "provider", "list", "--query", query, "--output", "json")
    registered = {str(name).lower() for name in listed} if isinstance(listed, list) else set()
    for provider in PROVIDERS:
        name = f"Microsoft.{provider}"
        if name.lower() not in registered:
            command = ("az", "provider", "register", "--namespace", name, "--wait")
            steps.change(f"resource provider {name}, which takes minutes", *command)


def make_group(steps: Steps, name: str, location: str) -> None:
    """Create a resource group unless it exists, in whichever region."""
    if run("az", "group", "exists", "--name", name).strip() == "true":
        steps.report_existing(f"resource group {name}")
        return
    steps.change(f"resource group {name}", "az", "group", "create", "--name", name, "--location", location)


def make_identity(steps: Steps, group: str, name: str) -> Identity:
    """Create a managed identity unless it exists."""
    options = ("--resource-group", group, "--name", name, "--output", "json")
    identity = as_object(find_json("az", "identity", "show", *options))
    if identity:
        steps.report_existing(f"identity {name}")
    else:
        identity = steps.change(f"identity {name}", "az", "identity", "create", *options)
    client, principal = identity.get("clientId"), identity.get("principalId")
    return Identity(name, group, str(client or f"<client id of {name}>"), str(principal or f"<object id of {name}>"))


def trust_github(steps: Steps, identity: Identity, issuer: str, subject: str, audience: str) -> None:
    """Let GitHub's tokens with one subject sign in as an identity. Entra compares the subject exactly.

    Parameters
    ----------
    steps
        Reports and makes the change.
    identity
        The identity.
    issuer, subject, audience
        The claims that a token must have.
    """
    options = ("--resource-group", identity.group, "--identity-name", identity.name)
    listed = objects(find_json("az", "identity", "federated-credential", "list", *options, "--output", "json"))
    wanted: Json = {"issuer": issuer, "subject": subject, "audiences": [audience]}
    what = f"federated credential of {identity.name} for {subject}"
    if any(wanted.items() <= credential.items() for credential in listed):
        steps.report_existing(what)
        return
    verb = "update" if any(credential.get("name") == _CREDENTIAL_NAME for credential in listed) else "create"
    name = ("--name", _CREDENTIAL_NAME, "--issuer", issuer, "--subject", subject, "--audiences", audience)
    steps.change(what, "az", "identity", "federated-credential", verb, *options, *name)


def grant_deployment(steps: Steps, scope: str, identity: Identity) -> None:
    """Let an identity create resources, and assign only the roles of the template."""
    _assign(steps, scope, identity, ("Contributor", CONTRIBUTOR))
    administrator = ("Role Based Access Control Administrator", ACCESS_ADMINISTRATOR)
    _assign(steps, scope, identity, administrator, assignment_condition())


def grant_custom_role(steps: Steps, subscription: str, scope: str, identity: Identity, name: str) -> None:
    """Assign one of `CUSTOM_ROLES` to an identity. The role is created if the subscription lacks it."""
    full_name = role_name(subscription, name)
    _assign(steps, scope, identity, (full_name, _custom_role(steps, subscription, full_name, CUSTOM_ROLES[name])))


def role_name(subscription: str, role: str) -> str:
    """Return the name of a custom role in a subscription. Azure accepts a name only once in a tenant."""
    return f"{role} {subscription[:8]}"


def assignment_condition() -> str:
    """Return the condition of the role assignment that limits which roles can be assigned: those of `roles.bicep`."""
    roles = "{" + ", ".join(sorted(set(_ROLE_ID.findall(_ROLES.read_text(encoding="utf-8"))))) + "}"
    attribute = "[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals"
    return " AND ".join(
        f"((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{action}'}})) OR ({source}{attribute} {roles}))"
        for action, source in (("write", "@Request"), ("delete", "@Resource"))
    )


def _custom_role(steps: Steps, subscription: str, name: str, actions: Sequence[str]) -> str:
    listed = objects(
        run_json("az", "role", "definition", "list", "--custom-role-only", "true", "--name", name, "--output", "json")
    )
    if listed:
        steps.report_existing(f"custom role {name}")
        return str(listed[0].get("name"))
    definition = {"Name": name, "AssignableScopes": [f"/subscriptions/{subscription}"], "Actions": list(actions)}
    command = ("az", "role", "definition", "create", "--role-definition", json.dumps(definition), "--output", "json")
    created = steps.change(f"custom role {name}", *command)
    return str(created.get("name") or f"<id of {name}>")


def _assign(steps: Steps, scope: str, identity: Identity, role: tuple[str, str], condition: str = "") -> None:
    name, role_id = role
    what = f"role {name} of {identity.name} on {scope.rpartition('/')[2]}"
    listed = objects(find_json("az", "role", "assignment", "list", "--scope", scope, "--output", "json"))
    for given in listed:
        if given.get("principalId") != identity.principal or not str(given.get("roleDefinitionId")).endswith(role_id):
            continue
        if _normalized(given.get("condition")) == _normalized(condition):
            steps.report_existing(what)
            return
        command = ("az", "role", "assignment", "delete", "--ids", str(given.get("id")))
        steps.change(f"{what}: its condition allows other roles than roles.bicep, so it is deleted", *command)
    receiver = ("--assignee-object-id", identity.principal, "--assignee-principal-type", "ServicePrincipal")
    limit = ("--condition", condition, "--condition-version", "2.0") if condition else ()
    command = ("az", "role", "assignment", "create", "--scope", scope, "--role", role_id, *receiver, *limit)
    steps.change(what, *command)


def _normalized(text: object) -> str:
    return "".join(str(text or "").split()).lower()
