"""Grants the bot its Graph permissions, lets it trust the app's identity, and creates and assigns app roles.

    python3 -m infra.grant_graph_permissions --bot-app-id <client id> --identity-principal-id <object id> [--dry-run]
        [--grant-to bot|<object id of a caller of the API> [--role Calls.Manage Recordings.Read]]

Existing objects stay as they are, so it can be run again. It needs only Python 3.10 or newer and `az`, and acts as the
account that `az` is signed in with. That account must be a Privileged Role Administrator, for consent, and an owner of
the app registrations. The directory shows new objects with a delay, so a step may wait for two minutes.
"""

import argparse
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from infra.arguments import guid
from infra.commands import Json, objects
from infra.directory import CLOUDS, Cloud, Directory, DirectoryError, ForbiddenError, get_token

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"  # Microsoft Graph itself, in every tenant
PERMISSIONS = ("Calls.Initiate.All",)
MEDIA_PERMISSIONS = ("Calls.AccessMedia.All",)  # needed if the bot hosts media, or records
APP_ROLES = {
    "Calls.Read": "Read calls, their event logs and why they ended.",
    "Calls.Manage": "Register, hang up and record calls; sweep.",
    "Recordings.Read": "Read the locations of recordings, with the token that opens them.",
}
BOT = "bot"  # in place of an object id: the bot's own service principal
_ROLE_IDS = uuid.UUID("6a9c2a52-5a0e-4c5e-9e52-0f6b8a3f8d11")  # the ids of roles are computed from their names


@dataclass(frozen=True, slots=True)
class GrantConfig:
    """The grants to make. `management_app_id` is that of the bot if management has no app registration of its own."""

    bot_app_id: str
    identity_principal_id: str
    management_app_id: str
    credential: str
    permissions: tuple[str, ...]
    grant_to: str | None = None  # BOT, or object id of a service principal, user or group in management's tenant
    roles: tuple[str, ...] = ()  # of APP_ROLES


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result: the error that ended the grant, if there was one; True if calls are kept alive nevertheless."""

    error: DirectoryError | None = None
    calls_are_kept: bool = True

    @property
    def is_done(self) -> bool:
        """True if all grants exist."""
        return self.error is None

    @property
    def is_forbidden(self) -> bool:
        """True if another account must do it. After any other error a repetition may succeed."""
        return isinstance(self.error, ForbiddenError)


def grant_keep_alive(directory: Directory, cloud: Cloud, tenant_id: str | None, config: GrantConfig) -> None:
    """Create what keeping calls alive needs: the bot's trust in the identity, and Graph's permissions.

    Raises
    ------
    DirectoryError
        A step failed. The steps before it are done, and a repeated run continues there.
    """
    identity = directory.get(
        f"/servicePrincipals/{config.identity_principal_id}", f"identity {config.identity_principal_id}"
    )
    if identity.get("servicePrincipalType") != "ManagedIdentity":
        raise DirectoryError(
            f"identity {config.identity_principal_id}: that is not a managed identity; use its object id"
        )
    if config.credential == "federated":
        _trust_identity(directory, cloud, tenant_id or _tenant(directory), config)
        caller = _service_principal(directory, config.bot_app_id)
    else:
        caller = config.identity_principal_id
    _grant_graph_permissions(directory, caller, config.permissions)


def grant_management(directory: Directory, config: GrantConfig) -> None:
    """Create the app roles of management, and assign them to the caller that the configuration names.

    Raises
    ------
    DirectoryError
        As of `grant_keep_alive`.
    """
    role_ids = _create_roles(directory, config.management_app_id)
    resource = _service_principal(directory, config.management_app_id)
    if config.grant_to:
        principal = _service_principal(directory, config.bot_app_id) if config.grant_to == BOT else config.grant_to
        _assign_roles(directory, resource, principal, {name: role_ids[name] for name in config.roles})


def _tenant(directory: Directory) -> str:
    for organization in directory.list_all("/organization?$select=id", "tenant"):
        return str(organization["id"])
    raise DirectoryError("tenant: the directory does not name it; use --tenant-id")


def _trust_identity(directory: Directory, cloud: Cloud, tenant_id: str, config: GrantConfig) -> None:
    """Let tokens of the identity sign in as the bot, so that it needs no secret and no certificate."""
    application = directory.get(f"/applications(appId='{config.bot_app_id}')", f"app registration {config.bot_app_id}")
    path = f"/applications/{application['id']}/federatedIdentityCredentials"
    issuer, subject = f"{cloud.authority}/{tenant_id}/v2.0", config.identity_principal_id
    for existing in directory.list_all(path, "federated credentials"):
        if existing.get("issuer") != issuer or existing.get("subject") != subject:
            continue
        if existing.get("audiences") != [cloud.audience]:
            what = f"federated credential {existing.get('name')}: audience {cloud.audience}"
            directory.write("PATCH", f"{path}/{existing['id']}", {"audiences": [cloud.audience]}, what)
        return
    name = f"call-keeper-{subject}"
    body: Json = {"name": name, "issuer": issuer, "subject": subject, "audiences": [cloud.audience]}
    directory.write("POST", path, body, f"federated credential {name} on app registration {config.bot_app_id}")


def _service_principal(directory: Directory, app_id: str) -> str:
    """Return the object id of the app's service principal, which is created if the tenant has none.

    It is empty if a dry run would create it.
    """
    path, what = f"/servicePrincipals(appId='{app_id}')", f"service principal of {app_id}"
    return str(directory.find_or_create(path, "/servicePrincipals", {"appId": app_id}, what).get("id", ""))


def _grant_graph_permissions(directory: Directory, caller: str, permissions: Sequence[str]) -> None:
    """Grant application permissions of Graph with consent, by assigning Graph's app roles."""
    graph = directory.get(f"/servicePrincipals(appId='{GRAPH_APP_ID}')", "service principal of Microsoft Graph")
    role_ids = {role.get("value"): role.get("id") for role in objects(graph.get("appRoles"))}
    path = f"/servicePrincipals/{caller}/appRoleAssignments"
    existing = {item.get("appRoleId") for item in directory.list_all(path, "permissions")} if caller else set()
    for name in permissions:
        if name not in role_ids:
            raise DirectoryError(f"permission {name}: Graph does not offer it in this cloud")
        if role_ids[name] not in existing:
            body: Json = {"principalId": caller, "resourceId": graph["id"], "appRoleId": role_ids[name]}
            directory.write("POST", path, body, f"permission {name}, with consent")


def _create_roles(directory: Directory, app_id: str) -> dict[str, str]:
    """Create the app roles of management, and return their ids by name. Other roles of the registration stay."""
    application = directory.get(f"/applications(appId='{app_id}')", f"app registration {app_id}")
    existing = list(objects(application.get("appRoles")))
    missing = [name for name in APP_ROLES if name not in {role.get("value") for role in existing}]
    if missing:
        body: Json = {"appRoles": [*existing, *map(_role, missing)]}  # a PATCH replaces the whole list
        what = f"app roles {', '.join(missing)} on app registration {app_id}"
        directory.write("PATCH", f"/applications/{application['id']}", body, what)
    return {str(role["value"]): str(role["id"]) for role in [*existing, *map(_role, missing)]}


def _assign_roles(directory: Directory, resource: str, grant_to: str, role_ids: dict[str, str]) -> None:
    """Assign roles of management to a principal. Existing assignments stay."""
    path = f"/servicePrincipals/{resource}/appRoleAssignedTo"
    existing = directory.list_all(path, "assignments of the app roles") if resource else iter(())
    given = {item.get("appRoleId") for item in existing if item.get("principalId") == grant_to}
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


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line, and check that its options fit together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bot-app-id", required=True, type=guid, help="client id of the bot's app registration")
    parser.add_argument(
        "--identity-principal-id", required=True, type=guid, help="output identityPrincipalId of the deployment"
    )
    parser.add_argument("--management-app-id", type=guid, help="app registration of management (default: the bot's)")
    parser.add_argument(
        "--credential",
        choices=("federated", "managedIdentity"),
        default="federated",
        help="managedIdentity: the identity itself is the bot",
    )
    parser.add_argument("--grant-to", type=_principal, metavar="ID", help="object id of a caller of the API, or `bot`")
    parser.add_argument(
        "--role", choices=sorted(APP_ROLES), nargs="+", help="roles of that caller (default: Calls.Manage)"
    )
    parser.add_argument(
        "--media", action="store_true", help="also grant Calls.AccessMedia.All, because the bot hosts media"
    )
    parser.add_argument("--cloud", choices=sorted(CLOUDS), default="global")
    parser.add_argument(
        "--tenant-id", type=guid, help="tenant of the identity (default: the one that az is signed in to)"
    )
    parser.add_argument("--dry-run", action="store_true", help="read, and print what would be written")
    args = parser.parse_args(argv)
    if args.credential == "managedIdentity" and not args.management_app_id:
        parser.error("--credential managedIdentity needs --management-app-id: an identity cannot hold app roles")
    if args.role and not args.grant_to:
        parser.error("--role needs --grant-to, which names the caller")
    return args


def _principal(text: str) -> str:
    return BOT if text == BOT else guid(text)


def grant(argv: Sequence[str] | None = None) -> Outcome:
    """Make the grants that the arguments name, and print each step and the error."""
    args = parse_arguments(argv)
    cloud = CLOUDS[args.cloud]
    config = GrantConfig(
        bot_app_id=args.bot_app_id,
        identity_principal_id=args.identity_principal_id,
        management_app_id=args.management_app_id or args.bot_app_id,
        credential=args.credential,
        permissions=PERMISSIONS + (MEDIA_PERMISSIONS if args.media else ()),
        grant_to=args.grant_to,
        roles=tuple(args.role or ("Calls.Manage",)),
    )
    calls_are_kept = False
    try:
        directory = Directory(f"{cloud.graph}/v1.0", get_token(cloud), dry_run=args.dry_run)
        grant_keep_alive(directory, cloud, args.tenant_id, config)
        calls_are_kept = True
        grant_management(directory, config)
    except DirectoryError as error:
        sys.stderr.write(f"failed: {error}\n")
        return Outcome(error, calls_are_kept)
    sys.stdout.write("dry run: nothing was written\n" if args.dry_run else "ok: all is as it should be\n")
    return Outcome()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a step failed."""
    return 0 if grant(argv).is_done else 1


if __name__ == "__main__":
    sys.exit(main())
