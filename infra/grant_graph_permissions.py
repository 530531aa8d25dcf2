"""Gives the bot its Graph permissions and trust in the app's identity, makes the app roles of management, gives them.

    python3 -m infra.grant_graph_permissions --bot-app-id <client id> --identity-principal-id <object id> [--dry-run]
        [--grant-to bot|<object id of who manages calls> [--role Calls.Manage Recordings.Read]]

What is there already stays as it is, so it can be run again. It needs Python 3.10 or newer and `az`, nothing else, and
acts as the account that `az` is signed in with. That account must be a Privileged Role Administrator, for consent, and
an owner of the app registrations. The directory shows late what was just made, so a step may wait two minutes for it.
"""

import argparse
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from infra.commands import Json, objects
from infra.directory import CLOUDS, Cloud, Directory, Forbidden, Refused, token

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"  # Microsoft Graph itself, in every tenant
PERMISSIONS = ("Calls.Initiate.All",)
MEDIA_PERMISSIONS = ("Calls.AccessMedia.All",)  # where the bot hosts media, or records
APP_ROLES = {
    "Calls.Read": "Read calls, their stories and why they ended.",
    "Calls.Manage": "Register, hang up and record calls; sweep.",
    "Recordings.Read": "Read where recordings are, with the token that opens them.",
}
BOT = "bot"  # in place of an object id: the bot's own service principal
_ROLE_IDS = uuid.UUID("6a9c2a52-5a0e-4c5e-9e52-0f6b8a3f8d11")  # role ids are made from their names, the same each time


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be. `management_app_id` is the bot's own where management has no registration of its own."""

    bot_app_id: str
    identity_principal_id: str
    management_app_id: str
    credential: str
    permissions: tuple[str, ...]
    grant_to: str | None = None  # object id of a service principal, user or group in the tenant of management, or BOT
    roles: tuple[str, ...] = ()  # of APP_ROLES


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a grant: what refused it, if anything did, and whether calls are kept alive all the same."""

    refusal: Refused | None = None
    calls_are_kept: bool = True

    @property
    def is_done(self) -> bool:
        """Whether all is as it should be."""
        return self.refusal is None

    @property
    def is_forbidden(self) -> bool:
        """Whether another account must do it. Any other refusal may pass, so a repetition helps."""
        return isinstance(self.refusal, Forbidden)


def let_keep_alive(directory: Directory, cloud: Cloud, tenant_id: str | None, wish: Wish) -> None:
    """Make all that keeping calls alive needs: the bot's trust in the identity, and Graph's permissions.

    Raises
    ------
    Refused
        A step failed; those before it are done, and a repeated run goes on there.
    """
    identity = directory.get(
        f"/servicePrincipals/{wish.identity_principal_id}", f"identity {wish.identity_principal_id}"
    )
    if identity.get("servicePrincipalType") != "ManagedIdentity":
        raise Refused(f"identity {wish.identity_principal_id}: that is no managed identity, give its object id")
    if wish.credential == "federated":
        _trust_identity(directory, cloud, tenant_id or _tenant(directory), wish)
        caller = _service_principal(directory, wish.bot_app_id)
    else:
        caller = wish.identity_principal_id
    _permit(directory, caller, wish.permissions)


def let_manage(directory: Directory, wish: Wish) -> None:
    """Make the app roles of management, and give them to the caller that is named.

    Raises
    ------
    Refused
        As of `let_keep_alive`.
    """
    role_ids = _add_roles(directory, wish.management_app_id)
    resource = _service_principal(directory, wish.management_app_id)
    if wish.grant_to:
        receiver = _service_principal(directory, wish.bot_app_id) if wish.grant_to == BOT else wish.grant_to
        _give_roles(directory, resource, receiver, {name: role_ids[name] for name in wish.roles})


def _tenant(directory: Directory) -> str:
    for organization in directory.every("/organization?$select=id", "tenant"):
        return str(organization["id"])
    raise Refused("tenant: the directory does not say which it is; give --tenant-id")


def _trust_identity(directory: Directory, cloud: Cloud, tenant_id: str, wish: Wish) -> None:
    """The bot's registration takes tokens of the identity for its own: no secret and no certificate."""
    application = directory.get(f"/applications(appId='{wish.bot_app_id}')", f"app registration {wish.bot_app_id}")
    path = f"/applications/{application['id']}/federatedIdentityCredentials"
    issuer, subject = f"{cloud.authority}/{tenant_id}/v2.0", wish.identity_principal_id
    for there in directory.every(path, "federated credentials"):
        if there.get("issuer") != issuer or there.get("subject") != subject:
            continue
        if there.get("audiences") != [cloud.audience]:
            what = f"federated credential {there.get('name')}: audience {cloud.audience}"
            directory.write("PATCH", f"{path}/{there['id']}", {"audiences": [cloud.audience]}, what)
        return
    name = f"call-keeper-{subject}"
    body: Json = {"name": name, "issuer": issuer, "subject": subject, "audiences": [cloud.audience]}
    directory.write("POST", path, body, f"federated credential {name} on app registration {wish.bot_app_id}")


def _service_principal(directory: Directory, app_id: str) -> str:
    """Object id of the app in this tenant; made if there is none. Empty in a dry run that would make it."""
    path, what = f"/servicePrincipals(appId='{app_id}')", f"service principal of {app_id}"
    return str(directory.find_or_make(path, "/servicePrincipals", {"appId": app_id}, what).get("id", ""))


def _permit(directory: Directory, caller: str, permissions: Sequence[str]) -> None:
    """Graph's application permissions, with consent: assignments of Graph's app roles."""
    graph = directory.get(f"/servicePrincipals(appId='{GRAPH_APP_ID}')", "service principal of Microsoft Graph")
    role_ids = {role.get("value"): role.get("id") for role in objects(graph.get("appRoles"))}
    path = f"/servicePrincipals/{caller}/appRoleAssignments"
    there = {item.get("appRoleId") for item in directory.every(path, "permissions")} if caller else set()
    for name in permissions:
        if name not in role_ids:
            raise Refused(f"permission {name}: Graph does not offer it in this cloud")
        if role_ids[name] not in there:
            body: Json = {"principalId": caller, "resourceId": graph["id"], "appRoleId": role_ids[name]}
            directory.write("POST", path, body, f"permission {name}, with consent")


def _add_roles(directory: Directory, app_id: str) -> dict[str, str]:
    """The app roles that management routes ask for, with their ids. Others of the registration stay."""
    application = directory.get(f"/applications(appId='{app_id}')", f"app registration {app_id}")
    there = list(objects(application.get("appRoles")))
    missing = [name for name in APP_ROLES if name not in {role.get("value") for role in there}]
    if missing:
        body: Json = {"appRoles": [*there, *map(_role, missing)]}  # a PATCH replaces the whole list
        what = f"app roles {', '.join(missing)} on app registration {app_id}"
        directory.write("PATCH", f"/applications/{application['id']}", body, what)
    return {str(role["value"]): str(role["id"]) for role in [*there, *map(_role, missing)]}


def _give_roles(directory: Directory, resource: str, grant_to: str, role_ids: dict[str, str]) -> None:
    """Roles of management, given to whoever manages calls. What was given stays."""
    path = f"/servicePrincipals/{resource}/appRoleAssignedTo"
    there = directory.every(path, "who has the app roles") if resource else iter(())
    given = {item.get("appRoleId") for item in there if item.get("principalId") == grant_to}
    for name, role_id in role_ids.items():
        if role_id not in given:
            body: Json = {"principalId": grant_to, "resourceId": resource, "appRoleId": role_id}
            directory.write("POST", path, body, f"app role {name} to {grant_to or 'the bot'}")


def _role(name: str) -> Json:
    return {
        "id": str(uuid.uuid5(_ROLE_IDS, name)),
        "value": name,
        "displayName": name,
        "description": APP_ROLES[name],
        "allowedMemberTypes": ["Application", "User"],
        "isEnabled": True,
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bot-app-id", required=True, type=_guid, help="client id of the bot's app registration")
    parser.add_argument(
        "--identity-principal-id", required=True, type=_guid, help="the deployment's output identityPrincipalId"
    )
    parser.add_argument("--management-app-id", type=_guid, help="app registration of management; else the bot's")
    parser.add_argument(
        "--credential",
        choices=("federated", "managedIdentity"),
        default="federated",
        help="managedIdentity, where the identity itself is the bot",
    )
    parser.add_argument(
        "--grant-to", type=_receiver, metavar="ID", help="object id of who manages calls; `bot`: the bot itself"
    )
    parser.add_argument("--role", choices=sorted(APP_ROLES), nargs="+", help="roles that it gets; else Calls.Manage")
    parser.add_argument("--media", action="store_true", help="Calls.AccessMedia.All too: the bot hosts media")
    parser.add_argument("--cloud", choices=sorted(CLOUDS), default="global")
    parser.add_argument("--tenant-id", type=_guid, help="tenant of the identity; else the one signed in to")
    parser.add_argument("--dry-run", action="store_true", help="read, and tell what would be written")
    asked = parser.parse_args(argv)
    if asked.credential == "managedIdentity" and not asked.management_app_id:
        parser.error("--credential managedIdentity needs --management-app-id: an identity cannot hold app roles")
    if asked.role and not asked.grant_to:
        parser.error("--role needs --grant-to: who shall have it")
    return asked


def _guid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no GUID") from None


def _receiver(text: str) -> str:
    return BOT if text == BOT else _guid(text)


def attempt(argv: Sequence[str] | None = None) -> Outcome:
    """Grant what the arguments ask for, and tell each step and the refusal."""
    asked = _arguments(argv)
    cloud = CLOUDS[asked.cloud]
    wish = Wish(
        bot_app_id=asked.bot_app_id,
        identity_principal_id=asked.identity_principal_id,
        management_app_id=asked.management_app_id or asked.bot_app_id,
        credential=asked.credential,
        permissions=PERMISSIONS + (MEDIA_PERMISSIONS if asked.media else ()),
        grant_to=asked.grant_to,
        roles=tuple(asked.role or ("Calls.Manage",)),
    )
    calls_are_kept = False
    try:
        directory = Directory(f"{cloud.graph}/v1.0", token(cloud), dry_run=asked.dry_run)
        let_keep_alive(directory, cloud, asked.tenant_id, wish)
        calls_are_kept = True
        let_manage(directory, wish)
    except Refused as error:
        sys.stderr.write(f"failed: {error}\n")
        return Outcome(error, calls_are_kept)
    sys.stdout.write("dry run: nothing was written\n" if asked.dry_run else "ok: all is as it should be\n")
    return Outcome()


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 when a step failed."""
    return 0 if attempt(argv).is_done else 1


if __name__ == "__main__":
    sys.exit(main())
