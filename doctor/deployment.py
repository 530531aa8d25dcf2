"""What Azure says of a deployed app, asked through the `az` command line and its login."""

import asyncio
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from doctor.finding import CannotCheck

PATIENCE = 60.0  # seconds for one `az`: it takes some already to start
_LOGIN = re.compile(r"az login|AADSTS\d+", re.IGNORECASE)


class AzureError(Exception):
    """`az` is not there, not logged in, or refused. The message is one line and says what to do."""


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
    def _flat(cls, shown: object) -> object:
        """`az` shows an app on Flex as Resource Manager does, its properties a level deeper than of other apps."""
        if isinstance(shown, dict) and isinstance(shown.get("properties"), dict):
            return {**shown, **shown["properties"]}
        return shown


class RoleAssignment(_Model):
    """A role of an identity, and the resource id that it holds for."""

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
    """A deployed app. `identities`: object ids by client id in lower case; the system-assigned one's key is empty."""

    name: str
    group: str
    subscription: str | None
    host_name: str
    state: str
    python: str | None
    flex: bool
    identities: Mapping[str, str]

    def principal(self, client_id: str | None) -> str | None:
        """The object id of the identity that this client id names, or of the system-assigned one."""
        return self.identities.get((client_id or "").lower())

    async def functions(self) -> list[str]:
        """The names of the functions that Azure has found in it."""
        listed = await self._ask("functionapp", "function", "list", "--name", self.name, "--resource-group", self.group)
        return [found.name.rpartition("/")[2] for found in _read(TypeAdapter(list[_Function]), listed)]

    async def roles(self, principal: str) -> list[RoleAssignment]:
        """The roles of an identity in the subscription."""
        listed = await self._ask("role", "assignment", "list", "--assignee", principal, "--all")
        return _read(TypeAdapter(list[RoleAssignment]), listed)

    async def graph_roles(self, principal: str, graph: str) -> set[str]:
        """The ids of the app roles of an identity, in any API."""
        url = f"{graph}/v1.0/servicePrincipals/{principal}/appRoleAssignments"
        found = _read(TypeAdapter(_AppRoles), await self._ask("rest", "--method", "get", "--url", url))
        return {assignment.app_role_id.lower() for assignment in found.value}

    async def _ask(self, *words: str) -> str:
        try:
            return await _az(self.subscription, *words)
        except AzureError as error:
            raise CannotCheck(str(error)) from None


async def read_deployment(name: str, group: str, subscription: str | None) -> tuple[Deployment, dict[str, str]]:
    """The app and its settings.

    Raises
    ------
    AzureError
        `az` cannot tell; the message says why.
    """
    of = ("--name", name, "--resource-group", group)
    asked = (("functionapp", "config", "appsettings", "list", *of), ("functionapp", "show", *of))
    answers = await asyncio.gather(*(_az(subscription, *words) for words in asked), return_exceptions=True)
    for answer in answers:  # only now, when no process is left
        if isinstance(answer, BaseException):
            raise answer
    listed, shown = (str(answer) for answer in answers)
    try:
        settings = TypeAdapter(list[_Setting]).validate_json(listed)
        site = _Site.model_validate_json(shown)
    except ValidationError:
        raise AzureError("az answered something that the doctor cannot read: update the Azure CLI") from None
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
    """What `az` prints as JSON; its own messages may repeat values, so that only their kind is told."""
    program = shutil.which("az")
    if program is None:
        raise AzureError("the Azure CLI (az) is not installed: install it, or copy the settings to local.settings.json")
    command = [program, *words, "--output", "json", "--only-show-errors"]
    command += ["--subscription", subscription] if subscription and words[0] != "rest" else []
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AzureError(f"az {' '.join(words[:3])} did not answer within {PATIENCE:.0f} s") from None
    if process.returncode:
        raise AzureError(_why(words, complaint.decode(errors="replace")))
    return out.decode()


def _why(words: Sequence[str], complaint: str) -> str:
    if _LOGIN.search(complaint):
        return "az is not logged in: run az login"
    code = re.search(r"\((\w+)\)", complaint)
    what = " ".join(word for word in words[:3] if not word.startswith("-"))
    return f"az {what} failed{f' ({code[1]})' if code else ''}: run it by hand to see why"


def _read[Kind](adapter: TypeAdapter[Kind], text: str) -> Kind:
    try:
        return adapter.validate_json(text or json.dumps(None))
    except ValidationError:
        raise CannotCheck("az answered something that the doctor cannot read: update the Azure CLI") from None
