"""A deployed app as Azure describes it, read through the `az` command line and its login."""

import asyncio
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from doctor.finding import CannotCheck

AZ_TIMEOUT = timedelta(seconds=60)  # for one `az` command; its start alone takes seconds
_LOGIN = re.compile(r"az login|AADSTS\d+", re.IGNORECASE)
_UNREADABLE = "the doctor cannot read the output of az: update the Azure CLI"


class AzureError(Exception):
    """`az` is missing, not logged in, or failed. The message is one line and says what to do."""


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class _Setting(_Model):
    name: str
    value: str | None = None


class _Principal(_Model):
    principal_id: str
    client_id: str | None = None


class _Identity(_Model):
    principal_id: str | None = None
    user_assigned_identities: dict[str, _Principal] | None = None


class _Runtime(_Model):
    name: str | None = None
    version: str | None = None


class _FunctionAppConfig(_Model):
    runtime: _Runtime | None = None


class _SiteConfig(_Model):
    linux_fx_version: str | None = None


class _Site(_Model):
    name: str
    default_host_name: str
    state: str = "Running"
    identity: _Identity | None = None
    function_app_config: _FunctionAppConfig | None = None
    site_config: _SiteConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, site: object) -> object:
        """Return the app with its properties at the top level.

        For an app on Flex, `az` prints the form of Resource Manager, which nests them in `properties`.
        """
        if isinstance(site, dict) and isinstance(site.get("properties"), dict):
            return {**site, **site["properties"]}
        return site


class RoleAssignment(_Model):
    """A role of an identity, and the resource id that it applies to."""

    role_definition_name: str | None = None
    scope: str = ""


class _AppRole(_Model):
    app_role_id: str


class _AppRoles(_Model):
    value: list[_AppRole] = Field(default_factory=list)


class _Function(_Model):
    name: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed app.

    `identities` has the object id of each identity by its client id in lower case. The key of the system-assigned
    identity is empty.
    """

    name: str
    group: str
    subscription: str | None
    host_name: str
    state: str
    python: str | None
    flex: bool
    identities: Mapping[str, str]

    def principal(self, client_id: str | None) -> str | None:
        """Return the object id of the identity with this client id; without one, of the system-assigned identity."""
        return self.identities.get((client_id or "").lower())

    async def functions(self) -> list[str]:
        """Return the names of the functions that Azure has found in the app."""
        listed = await self._ask("functionapp", "function", "list", "--name", self.name, "--resource-group", self.group)
        return [found.name.rpartition("/")[2] for found in _read(TypeAdapter(list[_Function]), listed)]

    async def roles(self, principal: str) -> list[RoleAssignment]:
        """Return the roles of an identity in the subscription."""
        listed = await self._ask("role", "assignment", "list", "--assignee", principal, "--all")
        return _read(TypeAdapter(list[RoleAssignment]), listed)

    async def graph_roles(self, principal: str, graph: str) -> set[str]:
        """Return the ids of the app roles that an identity has, in any API."""
        url = f"{graph}/v1.0/servicePrincipals/{principal}/appRoleAssignments"
        found = _read(TypeAdapter(_AppRoles), await self._ask("rest", "--method", "get", "--url", url))
        return {assignment.app_role_id.lower() for assignment in found.value}

    async def _ask(self, *words: str) -> str:
        try:
            return await _az(self.subscription, *words)
        except AzureError as error:
            raise CannotCheck(str(error)) from None


async def read_deployment(name: str, group: str, subscription: str | None) -> tuple[Deployment, dict[str, str]]:
    """Return a deployed app and its settings.

    Raises
    ------
    AzureError
        `az` failed; the message gives the reason.
    """
    which = ("--name", name, "--resource-group", group)
    commands = (("functionapp", "config", "appsettings", "list", *which), ("functionapp", "show", *which))
    outputs = await asyncio.gather(*(_az(subscription, *words) for words in commands), return_exceptions=True)
    for output in outputs:  # raised only when both processes have ended
        if isinstance(output, BaseException):
            raise output
    settings_json, site_json = (str(output) for output in outputs)
    try:
        settings = TypeAdapter(list[_Setting]).validate_json(settings_json)
        site = _Site.model_validate_json(site_json)
    except ValidationError:
        raise AzureError(_UNREADABLE) from None
    return _deployment(site, group, subscription), {each.name: each.value or "" for each in settings}


def _deployment(site: _Site, group: str, subscription: str | None) -> Deployment:
    identity = site.identity or _Identity()
    identities = {
        (each.client_id or "").lower(): each.principal_id for each in (identity.user_assigned_identities or {}).values()
    }
    if identity.principal_id:
        identities[""] = identity.principal_id
    return Deployment(
        name=site.name,
        group=group,
        subscription=subscription,
        host_name=site.default_host_name,
        state=site.state,
        python=_python(site),
        flex=site.function_app_config is not None,
        identities=identities,
    )


def _python(site: _Site) -> str | None:
    if site.function_app_config and site.function_app_config.runtime:
        return site.function_app_config.runtime.version
    version = (site.site_config.linux_fx_version if site.site_config else None) or ""
    return version.partition("|")[2] or None


async def _az(subscription: str | None, *words: str) -> str:
    """Return the JSON that `az` prints.

    Its error messages may contain values of settings, so an `AzureError` has only their code.
    """
    program = shutil.which("az")
    if program is None:
        raise AzureError("the Azure CLI (az) is not installed: install it, or copy the settings to local.settings.json")
    command = [program, *words, "--output", "json", "--only-show-errors"]
    command += ["--subscription", subscription] if subscription and words[0] != "rest" else []
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(AZ_TIMEOUT.total_seconds()):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AzureError(f"az {' '.join(words[:3])} did not finish within {AZ_TIMEOUT.total_seconds():.0f} s") from None
    if process.returncode:
        raise AzureError(_failure_message(words, errors.decode(errors="replace")))
    return out.decode()


def _failure_message(words: Sequence[str], errors: str) -> str:
    if _LOGIN.search(errors):
        return "az is not logged in: run az login"
    code = re.search(r"\((\w+)\)", errors)
    command = " ".join(word for word in words[:3] if not word.startswith("-"))
    return f"az {command} failed{f' ({code[1]})' if code else ''}: run it by hand to see why"


def _read[Kind](adapter: TypeAdapter[Kind], text: str) -> Kind:
    try:
        return adapter.validate_json(text or json.dumps(None))
    except ValidationError:
        raise CannotCheck(_UNREADABLE) from None
