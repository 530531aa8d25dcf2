"""Functions with their bindings as the worker library describes them, and the outcome of an invocation."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from azure_functions_runtime.bindings.datumdef import Datum
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from local.host.keys import AuthLevel
from local.host.settings import resolve


class Binding(BaseModel):
    """One binding of a function, as the worker library describes it; other properties are kept unchanged."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)

    type: str
    name: str
    direction: str
    route: str | None = None
    methods: tuple[str, ...] = ()
    auth_level: str | None = None
    schedule: str | None = None
    run_on_startup: bool = False
    use_monitor: bool = True
    queue_name: str | None = None
    connection: str | None = None

    def resolved(self, settings: Mapping[str, str], *, function: str) -> "Binding":
        """Return the binding with each `%NAME%` replaced by that setting. Raises `HostError` if it is missing."""
        properties = self.model_dump(by_alias=True, exclude_unset=True)
        for key, value in properties.items():
            if isinstance(value, str):
                properties[key] = resolve(value, settings, function=function)
        return Binding.model_validate(properties)

    @property
    def level(self) -> AuthLevel:
        """The authorization level; the platform's default is `function`."""
        return AuthLevel((self.auth_level or "function").lower())


@dataclass(frozen=True, slots=True)
class Function:
    """An indexed function: its name and its bindings. `retries` is True if it declares a retry policy."""

    name: str
    function_id: str
    bindings: tuple[Binding, ...]
    retries: bool = False

    @property
    def trigger(self) -> Binding:
        """The trigger binding; every function has exactly one."""
        return next(binding for binding in self.bindings if binding.type.lower().endswith("trigger"))

    def resolved(self, settings: Mapping[str, str]) -> "Function":
        """Return the function with the settings in its bindings replaced. Raises `HostError` if one is missing."""
        bindings = tuple(binding.resolved(settings, function=self.name) for binding in self.bindings)
        return Function(self.name, self.function_id, bindings, self.retries)

    def described(self) -> dict[str, object]:
        """Return the function as `--list` prints it. `%NAME%` is not replaced."""
        trigger = self.trigger
        described: dict[str, object] = {"name": self.name, "trigger": trigger.type}
        if trigger.type == "httpTrigger":
            described |= {"methods": trigger.methods, "route": trigger.route, "authLevel": trigger.level}
        dumped = [binding.model_dump(by_alias=True, exclude_unset=True) for binding in self.bindings]
        return described | {"bindings": dumped}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an invocation: the return value and the outputs as Datums, or the error's text."""

    returned: Datum | None = None
    outputs: tuple[tuple[str, Datum], ...] = ()
    error: str | None = None

    def value_of(self, function: Function, binding_type: str) -> Datum | None:
        """Return the value of the first output binding of this type; None if there is none."""
        return next((value for binding, value in self.values(function) if binding.type == binding_type), None)

    def values(self, function: Function) -> list[tuple[Binding, Datum]]:
        """Return each output binding that has a value, with the value."""
        outputs = {"$return": self.returned, **dict(self.outputs)}
        found = [(binding, outputs.get(binding.name)) for binding in function.bindings if binding.direction == "OUT"]
        return [(binding, value) for binding, value in found if value is not None and value.type is not None]


@dataclass(frozen=True, slots=True)
class Trace:
    """The W3C trace context of an invocation."""

    parent: str
    state: str = ""

    @classmethod
    def new(cls) -> "Trace":
        """Return a new trace, sampled."""
        return cls(f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")
