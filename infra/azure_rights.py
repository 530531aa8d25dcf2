"""What a pipeline needs in Azure: resource groups, identities, their federated credentials and their rights."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.commands import CommandError, Json, Steps, as_object, asked, found, objects, output
from infra.directory import CLOUDS

AUDIENCES = {  # by the cloud's name in az: what a federated credential there must be issued for
    "AzureCloud": CLOUDS["global"].audience,
    "AzureUSGovernment": CLOUDS["usgov-l4"].audience,
}
# Of the templates. AlertsManagement is in none of them: Application Insights makes a rule of its own there.
PROVIDERS = (
    *("AlertsManagement", "App", "Authorization", "Insights", "ManagedIdentity"),
    *("Network", "OperationalInsights", "Storage", "Web"),
)
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"  # Azure's built-in roles
ACCESS_ADMINISTRATOR = "f58310d9-a9f6-439a-9e8d-f62e7b41a168"  # Role Based Access Control Administrator
WHAT_IF = "Call Keeper what-if"
LOCKS = "Call Keeper locks"
CUSTOM_ROLES = {  # by the beginning of their names, see `name_in`
    WHAT_IF: (
        "*/read",
        "Microsoft.Resources/deployments/validate/action",
        "Microsoft.Resources/deployments/whatIf/action",
    ),
    LOCKS: ("Microsoft.Authorization/locks/*",),  # neither of the built-in roles above may write locks
}
_ROLES = Path(__file__).parent / "modules" / "roles.bicep"
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CREDENTIAL = "github"


@dataclass(frozen=True)
class Account:
    """The subscription that `az` is signed in to."""

    subscription: str
    tenant: str
    cloud: str

    @property
    def audience(self) -> str:
        """What tokens of GitHub must be issued for, so that this cloud takes them."""
        return AUDIENCES[self.cloud]

    def group(self, name: str) -> str:
        """Tell the resource id of a group."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{name}"


@dataclass(frozen=True)
class Identity:
    """A managed identity. In a dry run that would make it, its ids are descriptions."""

    name: str
    group: str
    client: str
    principal: str


def account() -> Account:
    """Ask az which subscription it is signed in to."""
    told = as_object(asked("az", "account", "show", "--output", "json"))
    cloud = str(told.get("environmentName"))
    if cloud not in AUDIENCES:
        raise CommandError(f"Graph has no calls API in the cloud {cloud}: az cloud set --name {' or '.join(AUDIENCES)}")
    return Account(str(told["id"]), str(told["tenantId"]), cloud)


def register_providers(steps: Steps) -> None:
    """Register what the subscription lacks. A pipeline has rights in its group alone, so it cannot do it itself."""
    query = "[?registrationState=='Registered'].namespace"
    listed = asked("az", "provider", "list", "--query", query, "--output", "json")
    registered = {str(name).lower() for name in listed} if isinstance(listed, list) else set()
    for provider in PROVIDERS:
        name = f"Microsoft.{provider}"
        if name.lower() not in registered:
            command = ("az", "provider", "register", "--namespace", name, "--wait")
            steps.change(f"resource provider {name}, which takes minutes", *command)


def make_group(steps: Steps, name: str, location: str) -> None:
    """Make a resource group unless it exists, wherever it is."""
    if output("az", "group", "exists", "--name", name).strip() == "true":
        steps.there(f"resource group {name}")
        return
    steps.change(f"resource group {name}", "az", "group", "create", "--name", name, "--location", location)


def make_identity(steps: Steps, group: str, name: str) -> Identity:
    """Make a managed identity unless it exists."""
    where = ("--resource-group", group, "--name", name, "--output", "json")
    told = as_object(found("az", "identity", "show", *where))
    if told:
        steps.there(f"identity {name}")
    else:
        told = steps.change(f"identity {name}", "az", "identity", "create", *where)
    client, principal = told.get("clientId"), told.get("principalId")
    return Identity(name, group, str(client or f"<client id of {name}>"), str(principal or f"<object id of {name}>"))


def trust(steps: Steps, identity: Identity, issuer: str, subject: str, audience: str) -> None:
    """Let an identity take GitHub's tokens of one subject. Entra compares the subject letter for letter."""
    where = ("--resource-group", identity.group, "--identity-name", identity.name)
    listed = objects(found("az", "identity", "federated-credential", "list", *where, "--output", "json"))
    wanted: Json = {"issuer": issuer, "subject": subject, "audiences": [audience]}
    what = f"federated credential of {identity.name} for {subject}"
    if any(wanted.items() <= credential.items() for credential in listed):
        steps.there(what)
        return
    verb = "update" if any(credential.get("name") == _CREDENTIAL for credential in listed) else "create"
    name = ("--name", _CREDENTIAL, "--issuer", issuer, "--subject", subject, "--audiences", audience)
    steps.change(what, "az", "identity", "federated-credential", verb, *where, *name)


def let_deploy(steps: Steps, scope: str, identity: Identity) -> None:
    """Let an identity make resources, and assign the roles of the template, no others."""
    _assign(steps, scope, identity, ("Contributor", CONTRIBUTOR))
    administrator = ("Role Based Access Control Administrator", ACCESS_ADMINISTRATOR)
    _assign(steps, scope, identity, administrator, condition())


def let_use(steps: Steps, subscription: str, scope: str, identity: Identity, name: str) -> None:
    """Give an identity one of `CUSTOM_ROLES`, which is made if the subscription lacks it."""
    full_name = name_in(subscription, name)
    _assign(steps, scope, identity, (full_name, _custom_role(steps, subscription, full_name, CUSTOM_ROLES[name])))


def name_in(subscription: str, role: str) -> str:
    """Tell the name of a custom role in a subscription: Azure takes a name once in a whole tenant."""
    return f"{role} {subscription[:8]}"


def condition() -> str:
    """Tell the condition under which roles may be assigned: they are those of `roles.bicep`."""
    roles = "{" + ", ".join(sorted(set(_GUID.findall(_ROLES.read_text(encoding="utf-8"))))) + "}"
    attribute = "[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals"
    return " AND ".join(
        f"((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{action}'}})) OR ({source}{attribute} {roles}))"
        for action, source in (("write", "@Request"), ("delete", "@Resource"))
    )


def _custom_role(steps: Steps, subscription: str, name: str, actions: Sequence[str]) -> str:
    listed = objects(
        asked("az", "role", "definition", "list", "--custom-role-only", "true", "--name", name, "--output", "json")
    )
    if listed:
        steps.there(f"custom role {name}")
        return str(listed[0].get("name"))
    definition = {"Name": name, "AssignableScopes": [f"/subscriptions/{subscription}"], "Actions": list(actions)}
    command = ("az", "role", "definition", "create", "--role-definition", json.dumps(definition), "--output", "json")
    made = steps.change(f"custom role {name}", *command)
    return str(made.get("name") or f"<id of {name}>")


def _assign(steps: Steps, scope: str, identity: Identity, role: tuple[str, str], under: str = "") -> None:
    name, role_id = role
    what = f"role {name} of {identity.name} on {scope.rpartition('/')[2]}"
    listed = objects(found("az", "role", "assignment", "list", "--scope", scope, "--output", "json"))
    for given in listed:
        if given.get("principalId") != identity.principal or not str(given.get("roleDefinitionId")).endswith(role_id):
            continue
        if _plain(given.get("condition")) == _plain(under):
            steps.there(what)
            return
        command = ("az", "role", "assignment", "delete", "--ids", str(given.get("id")))
        steps.change(f"{what}: its condition admits other roles than roles.bicep, so it goes", *command)
    receiver = ("--assignee-object-id", identity.principal, "--assignee-principal-type", "ServicePrincipal")
    limit = ("--condition", under, "--condition-version", "2.0") if under else ()
    command = ("az", "role", "assignment", "create", "--scope", scope, "--role", role_id, *receiver, *limit)
    steps.change(what, *command)


def _plain(text: object) -> str:
    return "".join(str(text or "").split()).lower()
