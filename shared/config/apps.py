"""The bots of a deployment: their apps, credentials and audiences."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from shared.config.types import Guid
from shared.domain.calls import Call
from shared.identifiers import lower_guids

type CredentialKind = Literal["managedIdentity", "federated", "certificate", "secret"]

_SECRET_REFERENCES = {"clientSecretSetting": "clientSecret", "certificatePasswordSetting": "certificatePassword"}
type SettingName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def _refuse_plain_secret(value: object) -> object:
    if isinstance(value, str):
        raise ValueError("must not be here: put it into a setting of its own, and name that in …Setting")  # noqa: TRY004 (pydantic needs this class)
    return value


type Secret = Annotated[SecretStr | None, BeforeValidator(_refuse_plain_secret)]


class BotApp(BaseModel):
    """An app registration whose calls are kept alive, and its credential. Secrets come from the settings it names."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    app_id: Guid = Field(description="The bot's application (client) id.")
    credential: CredentialKind = Field(description="As GRAPH_CREDENTIAL.")
    tenant_id: Guid | None = Field(None, description="As GRAPH_TENANT_ID, for calls registered for this app.")
    identity_client_id: Guid | None = Field(None, description="As AZURE_CLIENT_ID; AZURE_CLIENT_ID if absent.")
    client_secret_setting: SettingName | None = Field(
        None, description="The name of the setting that holds the app's secret, for `secret`."
    )
    client_secret: Secret = Field(None, validate_default=True)
    certificate_path: str | None = Field(
        None, validate_default=True, description="As GRAPH_CERTIFICATE_PATH, for `certificate`."
    )
    certificate_password_setting: SettingName | None = Field(
        None, description="The name of the setting that holds the password of that file, if it has one."
    )
    certificate_password: Secret = Field(None, validate_default=True)
    notification_audiences: tuple[str, ...] = Field((), description="As NOTIFICATION_AUDIENCES; appId if absent.")

    @field_validator("client_secret")
    @classmethod
    def _has_its_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("credential") == "secret" and value is None:
            raise ValueError("is missing: clientSecretSetting must name a setting that is set")
        return value

    @field_validator("certificate_path")
    @classmethod
    def _has_its_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("credential") == "certificate" and not value:
            raise ValueError("is missing")
        return value

    @field_validator("certificate_password")
    @classmethod
    def _has_its_password(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("certificate_password_setting") and value is None:
            raise ValueError("is missing: certificatePasswordSetting must name a setting that is set")
        return value

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences of notification tokens for calls of this app."""
        return self.notification_audiences or (self.app_id,)


class Apps:
    """All bots of this deployment. The first one, that of GRAPH_APP_ID, is the default."""

    def __init__(self, apps: tuple[BotApp, ...]) -> None:
        self.default = apps[0]
        self._by_id = {app.app_id: app for app in apps}
        by_audience = {lower_guids(audience): app.app_id for app in apps for audience in app.audiences}
        self._by_audience = {app_id: app_id for app_id in self._by_id} | by_audience

    @property
    def ids(self) -> tuple[str, ...]:
        """The client ids, which are also the audiences of notification tokens of Entra."""
        return tuple(self._by_id)

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences of notification tokens of the legacy kind."""
        return tuple(lower_guids(audience) for app in self._by_id.values() for audience in app.audiences)

    @property
    def has_several(self) -> bool:
        """True if there are at least two bots."""
        return len(self._by_id) > 1

    def get(self, app_id: str | None) -> BotApp | None:
        """Return the app with this id, the default for None. None if this deployment does not serve the app."""
        return self._by_id.get(app_id.lower()) if app_id else self.default

    def app_id_of_audience(self, audience: str) -> str | None:
        """Return the id of the app with this audience. A single app has all audiences."""
        return self._by_audience.get(lower_guids(audience)) if self.has_several else self.default.app_id

    def with_app_id(self, call: Call) -> Call:
        """Return the call with an app id: calls recorded before calls had one get the default."""
        return call if call.app_id else replace(call, app_id=self.default.app_id)


def parse_apps(text: object, variables: Mapping[str, str | None]) -> object:
    """Parse GRAPH_APPS, and add to each app the secrets of the settings that it names.

    Parameters
    ----------
    text
        The JSON of a list of objects. Anything else is returned unchanged; `refuse_unparsed` refuses it.
    variables
        The environment, with its names in lower case.
    """
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, list):
        return text
    return [_with_secrets(app, variables) if isinstance(app, dict) else app for app in found]


def refuse_unparsed(value: object) -> object:
    """Refuse what `parse_apps` could not parse. The message does not repeat it."""
    if isinstance(value, str):
        example = '[{"appId": "<client id>", "credential": "federated"}]'
        raise ValueError(f"must be a JSON list of apps, such as {example}")  # noqa: TRY004 (as above)
    return value


def check_apps(apps: tuple[BotApp, ...], default: BotApp) -> None:
    """Check that no two apps have the same id or share an audience.

    Raises
    ------
    ValueError
        Two apps have the same id, or share an audience.
    """
    ids = [app.app_id for app in (default, *apps)]
    audiences = [audience for app in (default, *apps) for audience in {app.app_id, *map(lower_guids, app.audiences)}]
    if len(set(ids)) < len(ids):
        raise ValueError("names an app twice, or the app of GRAPH_APP_ID, which is always served")
    if len(set(audiences)) < len(audiences):
        raise ValueError("shares an audience between apps (NOTIFICATION_AUDIENCES belongs to GRAPH_APP_ID alone)")


def _with_secrets(app: dict[str, object], variables: Mapping[str, str | None]) -> dict[str, object]:
    names = {
        secret: str(app[reference]).lower() for reference, secret in _SECRET_REFERENCES.items() if reference in app
    }
    values = {secret: variables.get(name) for secret, name in names.items()}
    return {**app, **{secret: SecretStr(value) for secret, value in values.items() if value}}
