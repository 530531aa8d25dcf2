"""The function app's settings, collected from all places in the templates that contribute to them."""

from collections.abc import Iterator
from dataclasses import dataclass

from release.flex import HARMFUL_SETTINGS
from shared.config.settings import Settings, setting_name
from tests.infra.facts import NOT_DEPLOYED, PLATFORM_SETTINGS
from tests.infra.policy import deployed, value_at
from tools.bicep_check.program import Finding, Program, Template
from tools.bicep_check.tree import Lambda, Name, Node, Object, Property, walk


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting, and the property that sets it."""

    template: Template
    given: Property

    @property
    def name(self) -> str:
        """The setting's name; empty if it is computed."""
        return self.given.key.literal or ""


def app_settings(program: Program) -> list[Setting]:
    """Return all settings that a deployment may set, conditional ones included."""
    found: list[Setting] = []
    for template, site in deployed(program, "Microsoft.Web/sites"):
        value = value_at(template, site.body, "properties.siteConfig.appSettings")
        found += [
            Setting(where, member)
            for where, node in _reached(program, template, value)
            if isinstance(node, Object)
            for member in node.properties
        ]
    return found


def _reached(program: Program, template: Template, node: Node | None) -> Iterator[tuple[Template, Node]]:
    """Yield the nodes of an expression, also those behind variables and params, but not those inside lambdas."""
    shapes = {id(inner) for found in walk(node) if isinstance(found, Lambda) for inner in walk(found)}
    for found in walk(node):
        if id(found) in shapes:
            continue
        yield template, found
        symbol = template.symbols.get(found.name) if isinstance(found, Name) else None
        if symbol is not None and symbol.keyword == "var":
            yield from _reached(program, template, symbol.value)
        elif symbol is not None and symbol.keyword == "param":
            yield from _passed(program, template, symbol.name)


def _passed(program: Program, template: Template, param: str) -> Iterator[tuple[Template, Node]]:
    for path in program.names(".bicep"):
        caller = program.template(path)
        for module in caller.of("module"):
            if program.resolve(path, module.path) == template.path:
                yield from _reached(program, caller, value_at(caller, module.body, f"params.{param}"))


def check_settings(program: Program) -> list[Finding]:
    """Return where the settings of the function app differ from those of `Settings` and of the platform."""
    settings = app_settings(program)
    own = {setting_name(field) for field in Settings.model_fields} - NOT_DEPLOYED.keys()
    given = {setting.name for setting in settings}
    path = settings[0].template.path if settings else program.names(".bicep")[0]
    missing = (f"the app lacks the setting {name}" for name in sorted((own | PLATFORM_SETTINGS.keys()) - given))
    return [*(Finding(path, 1, message) for message in missing), *_wrong(settings, own | PLATFORM_SETTINGS.keys())]


def _wrong(settings: list[Setting], known: set[str]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for setting in settings:
        place = setting.template.path, setting.given.line
        if setting.name not in known:
            yield Finding(*place, f"the setting {setting.name!r} is {_harm(setting.name)}")
        if setting.name in seen and seen[setting.name] != id(setting.given):
            yield Finding(*place, f"the setting {setting.name!r} is set twice")
        seen[setting.name] = id(setting.given)


def _harm(name: str) -> str:
    """Return why an unknown setting is not allowed. Azure ignores the case of names of settings."""
    harmful = {known.upper(): why for known, why in HARMFUL_SETTINGS.items()}
    why = harmful.get(name.upper())
    return f"harmful on Flex Consumption: {why}" if why else "unknown to both the app and the host"
