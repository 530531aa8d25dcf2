"""The targets of the relay: the bots that receive notifications and events, their addresses and their secrets."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from shared.addresses import Reach, is_usual_form, literal_address, reach_of
from shared.config.apps import Secret, SettingName
from shared.config.types import Guid
from shared.domain.deliveries import EVENT_TYPES, is_valid_to
from shared.identifiers import is_guid
from shared.untrusted_json import refuse_duplicates
from shared.urls import LOOPBACK, host_of

type TargetFormat = Literal["graph", "events"]

MAX_EVENTS_TARGETS = 12  # the events of one change for all of them must fit into its transaction
MAX_URL_LENGTH = 2_048  # characters
MAX_AUDIENCE_LENGTH = 255  # characters; Entra's limit of an App ID URI
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64  # Standard Webhooks, "Signature scheme"
SECRET_PREFIX = "whsec_"  # noqa: S105 (the prefix of secrets, of Standard Webhooks)
_TO = "{to}"
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_AUTHORITY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_PRINTABLE = re.compile(rf"[!-~]{{1,{MAX_URL_LENGTH}}}")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")  # RFC 3986, 3.3
_APP_ID_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_MAX_PORT = 65_535


class RelayTarget(BaseModel):
    """An entry of RELAY_TARGETS. Its secret comes from the setting that it names."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="Its name: 1 to 40 of `a-z`, `0-9` and `-`.")
    url: str = Field(
        description="Address of the bot: https, or http to this machine. `{to}` may stand once in its path."
    )
    format: TargetFormat = Field(
        description="`graph`: Graph's own requests. `events`: the events of Call Keeper, such as `call.ended`."
    )
    app_id: Guid | None = Field(
        None, description="The bot whose calls it receives. If absent, GRAPH_APP_ID for `graph`, all bots for `events`."
    )
    types: tuple[str, ...] | None = Field(
        None, description="The types of events that it receives, for `events`; all if absent."
    )
    secret_setting: SettingName | None = Field(
        None,
        description="The name of the setting that holds the secret for signatures: `whsec_` and 24 to 64 bytes in "
        "base64.",
    )
    secret: Secret = Field(None, validate_default=True)
    audience: str | None = Field(
        None,
        validate_default=True,
        description="Application id or App ID URI that our tokens are for. If absent, the bot's own app id for "
        "`graph`, no token for `events`. `events` needs `audience`, `secretSetting` or both.",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        _check_url(value)
        return value

    @field_validator("types")
    @classmethod
    def _are_types_of_events(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if value is None:
            return None
        if info.data.get("format") == "graph":
            raise ValueError("is only for the format events: a graph target receives every notification")
        if not value or not set(value) <= set(EVENT_TYPES):
            raise ValueError(f"must be a list of event types, of {', '.join(EVENT_TYPES)}")
        return value

    @field_validator("secret")
    @classmethod
    def _is_a_secret_for_signatures(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            if info.data.get("secret_setting"):
                raise ValueError("is missing: secretSetting must name a setting that is set")
            return None
        secret_key(value)
        return value

    @field_validator("audience")
    @classmethod
    def _is_whom_tokens_are_for(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            if info.data.get("format") == "events" and info.data.get("secret", "wrong") is None:
                raise ValueError("is missing: a target of the format events needs it, or secretSetting, or both")
            return None
        if is_guid(value):
            return value.lower()
        is_uri = len(value) <= MAX_AUDIENCE_LENGTH and _APP_ID_URI.fullmatch(value) is not None
        if not is_uri or value.endswith("/.default"):
            raise ValueError("must be an application id, or an App ID URI such as api://bot, without /.default")
        return value

    @property
    def wants_to(self) -> bool:
        """True if the address has `{to}`."""
        return _TO in self.url

    def url_for(self, to: str | None) -> str:
        """Return the address of an instance. `to` is ignored if the address has no `{to}`.

        Raises
        ------
        ValueError
            The address has `{to}`, and `to` is missing or has characters that it must not have.
        """
        if not self.wants_to:
            return self.url
        if to is None or not is_valid_to(to):
            raise ValueError(f"the target {self.name} needs a valid `to`")
        return self.url.replace(_TO, to)

    def receives(self, app_id: str, event_type: str) -> bool:
        """True if it is a target for events, and for events of this app and this type."""
        return (
            self.format == "events"
            and self.app_id in {None, app_id}
            and (self.types is None or event_type in self.types)
        )


class RelayTargets:
    """All targets of the relay. Calls without an app id belong to the default app."""

    def __init__(self, targets: tuple[RelayTarget, ...], default_app_id: str) -> None:
        self.all = targets
        self._default_app_id = default_app_id
        self._by_name = {target.name: target for target in targets}
        self._graph = {target.app_id: target for target in targets if target.format == "graph"}

    def get(self, name: str) -> RelayTarget | None:
        """Return the target of this name. None if there is none."""
        return self._by_name.get(name)

    def graph_target(self, app_id: str | None) -> RelayTarget | None:
        """Return the target that receives Graph's requests about calls of the app. None if there is none."""
        return self._graph.get(self.app_of(app_id))

    def events_targets(self, app_id: str | None, event_type: str) -> tuple[RelayTarget, ...]:
        """Return the targets that receive events of this type about calls of the app."""
        return tuple(target for target in self.all if target.receives(self.app_of(app_id), event_type))

    def app_of(self, app_id: str | None) -> str:
        """Return the app of a call on record: calls without an app id belong to the default app."""
        return (app_id or self._default_app_id).lower()


def parse_targets(text: object, variables: Mapping[str, str | None]) -> object:
    """Parse RELAY_TARGETS, and add to each target the secret of the setting that it names.

    Parameters
    ----------
    text
        The JSON of a list of objects. Anything else is returned unchanged; `refuse_unparsed_targets` refuses it.
    variables
        The environment, with its names in lower case.
    """
    try:
        found = json.loads(text, object_pairs_hook=refuse_duplicates) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, list):
        return text
    return [_with_secret(target, variables) if isinstance(target, dict) else target for target in found]


def refuse_unparsed_targets(value: object) -> object:
    """Refuse what `parse_targets` could not parse. The message does not repeat it."""
    if isinstance(value, str):
        example = '[{"name": "bot", "url": "https://<host>/<path>", "format": "graph"}]'
        raise ValueError(f"must be a JSON list of targets with each member once, such as {example}")  # noqa: TRY004 (pydantic needs this class)
    return value


def complete_targets(
    targets: tuple[RelayTarget, ...], default_app_id: str, app_ids: AbstractSet[str], *, allow_private: bool
) -> tuple[RelayTarget, ...]:
    """Return the targets with the defaults of `graph` targets: the app, and the audience of its tokens.

    Parameters
    ----------
    targets
        The targets, each of which is valid alone.
    default_app_id
        The app of a `graph` target that names none.
    app_ids
        The apps that this deployment serves.
    allow_private
        RELAY_ALLOW_PRIVATE_ADDRESSES.

    Raises
    ------
    ValueError
        Two targets have one name, an app is unknown or has two `graph` targets, an address is private, or there are too
        many `events` targets. The message has all of these faults.
    """
    completed = tuple(_with_defaults(target, default_app_id) for target in targets)
    faults = [
        f"target {number}: {fault}"
        for number, target in enumerate(completed, 1)
        for fault in _faults_among(target, completed[: number - 1], app_ids, allow_private=allow_private)
    ]
    if sum(target.format == "events" for target in completed) > MAX_EVENTS_TARGETS:
        faults.append(f"must have at most {MAX_EVENTS_TARGETS} targets of the format events")
    if faults:
        raise ValueError("; ".join(faults))
    return completed


def secret_key(secret: SecretStr) -> bytes:
    """Return the key of a secret for signatures, by Standard Webhooks: `whsec_` and the key in base64.

    Raises
    ------
    ValueError
        It is something else, or the key has not 24 to 64 bytes.
    """
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"must be {SECRET_PREFIX} and base64 of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes"
        ) from None
    return key


def _with_secret(target: dict[str, object], variables: Mapping[str, str | None]) -> dict[str, object]:
    name = target.get("secretSetting")
    value = variables.get(name.lower()) if isinstance(name, str) else None
    return {"secret": SecretStr(value), **target} if value else target  # a secret in the list stays, and is refused


def _with_defaults(target: RelayTarget, default_app_id: str) -> RelayTarget:
    if target.format == "events":
        return target
    app_id = target.app_id or default_app_id
    return target.model_copy(update={"app_id": app_id, "audience": target.audience or app_id})


def _faults_among(
    target: RelayTarget, earlier: tuple[RelayTarget, ...], app_ids: AbstractSet[str], *, allow_private: bool
) -> Iterable[str]:
    if target.name in {other.name for other in earlier}:
        yield "name is that of an earlier target"
    if target.app_id is not None and target.app_id not in app_ids:
        yield "appId is neither GRAPH_APP_ID nor an app of GRAPH_APPS"
    if target.format == "graph" and target.app_id in {other.app_id for other in earlier if other.format == "graph"}:
        yield "the app has an earlier target of the format graph"
    reach = _reach_of_literal(target.url)
    if reach is Reach.PLATFORM:
        yield "url has a link-local address or that of Azure's platform, which is never allowed"
    if reach is Reach.PRIVATE and not allow_private:
        yield "url has a private address: use a public one, or set RELAY_ALLOW_PRIVATE_ADDRESSES=true"


def _reach_of_literal(url: str) -> Reach | None:
    """Return the reach of the IP address in a checked URL. None for a name, and for this machine."""
    host = host_of(url)
    address = None if host in LOOPBACK else literal_address(host)
    return reach_of(address) if address else None


def _check_url(url: str) -> None:
    """Check all of an address but the reach of its host, which depends on another setting."""
    if url.count(_TO) > 1 or set("{}") & set(url.replace(_TO, "")):
        raise ValueError("may have {to} once, in its path, and no other braces")
    try:
        parts = urlsplit(url)
    except ValueError:  # the text of the error repeats the address
        raise ValueError("must be a URL such as https://host/path") from None
    if "@" in parts.netloc:
        raise ValueError("must have no user: put a secret into a setting of its own")
    if "?" in url or "#" in url:
        raise ValueError("must have no query and no fragment: a secret in it would be shown with the address")
    if _TO in parts.netloc:
        raise ValueError("may have {to} only in its path")
    authority = _AUTHORITY.fullmatch(parts.netloc) if _PRINTABLE.fullmatch(url) else None
    if not authority or not 0 < int(authority["port"] or 1) <= _MAX_PORT:
        raise ValueError("must be a URL such as https://host/path")
    if not _PATH.fullmatch(parts.path.replace(_TO, "")):
        raise ValueError("has characters in its path that must be percent-encoded")
    host = host_of(url)
    if not url.startswith("https://") and not (url.startswith("http://") and host in LOOPBACK):
        raise ValueError("must begin with https:// (http:// is only for 127.0.0.1, ::1 and localhost)")
    _check_host(host)


def _check_host(host: str) -> None:
    """Refuse an address in another form than the usual one: not all programs agree which address it is."""
    if host in LOOPBACK:
        return
    if host.rstrip(".").lower() == "localhost":
        raise ValueError("must name this machine localhost, 127.0.0.1 or ::1, spelled so")
    try:
        is_literal = literal_address(host) is not None
    except ValueError:  # its text may repeat the address
        is_literal = True
    if is_literal and not is_usual_form(host):
        raise ValueError("must have an IP address in its usual form, such as 192.0.2.1 or [2001:db8::1]")
