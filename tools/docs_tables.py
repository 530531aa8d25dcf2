"""The tables in docs/ that are generated from code. `python -m tools.docs_tables` writes them.

It also writes the JSON Schemas of our events and the examples of events that the tests compare with.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

import shared
from bench.table import (
    CONTESTANTS,
    HANG_UP_COLUMNS,
    NOTIFICATION_COLUMNS,
    SWEEPS,
    figures_row,
    goals,
    hang_up_rows,
    outage_rows,
    profile_tables,
    relay_tables,
    tenant_rows,
    webhook_rows,
)
from release import cost
from shared.config.apps import BotApp
from shared.config.relay_targets import RelayTarget
from shared.config.setting_groups import SettingsGroup
from shared.config.settings import Settings, setting_name
from shared.domain.deliveries import EVENT_TYPES
from shared.domain.termination import CitedMeaning, CodeEntry, catalogue
from shared.graph.entra_errors import ADVICE, ADVICE_FOR_AUDIENCE
from shared.relay.event_models import event_schema
from shared.telemetry import LogEvent, Metric
from tools.event_examples import event_examples, generated_files
from tools.row_examples import row_examples

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- table: (?P<name>[a-z-]+) -->\n(?P<body>.*?)<!-- /table -->\n", re.DOTALL)
GROUPS = {
    group.table: [name for name in Settings.model_fields if name in group.__annotations__]
    for group in SettingsGroup.__subclasses__()
}
GUARDS = {  # settings that guard something, and what their default keeps shut
    name: str(field.json_schema_extra["guards"])
    for name, field in Settings.model_fields.items()
    if isinstance(field.json_schema_extra, dict)
}
SHARING = "performance-sharing"  # the report of the parts that were measured later
RELAY = "performance-relay"  # the report of the relay
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
MAX_LICENCE_LENGTH = 30  # characters
ALIASES = {"Apache 2.0": "Apache-2.0", "MIT License": "MIT"}
ROW_KINDS = (
    *("active", "ended", "recent", "event", "operation", "idempotency"),
    *("delivery", "pending", "lane", "destination"),
    *("active-watermark", "active-progress", "signing-key", "watchdog"),
)
EVENT_EXAMPLES = {  # the example of each type of event that docs/events.md shows
    "call.established": "call-established",
    "call.ended": "call-ended",
    "call.at_risk": "call-at-risk",
    "recording.completed": "recording-completed",
    "recording.lost": "recording-lost",
}
LEVELS = {20: "information", 30: "warning", 40: "error"}


def default_of(field: FieldInfo) -> str:
    """A setting's default as a table shows it: as one would write it in the environment."""
    if field.is_required():
        return "required"
    match field.default:
        case None | ():
            return "none"
        case timedelta() as value:
            return f"`{TypeAdapter(timedelta).dump_python(value, mode='json')}`"
        case tuple() as values:
            return f"`{','.join(values)}`"
        case SecretStr():
            raise TypeError("no setting has a secret as its default")
        case value:
            return f"`{value}`"


def log_events() -> list[LogEvent[...]]:
    """All log events of `shared`, wherever they are declared."""
    return sorted(_instances(LogEvent), key=lambda event: event.name)


def metrics() -> list[Metric]:
    """All metrics of `shared`."""
    return sorted(_instances(Metric), key=lambda metric: metric.name)


def table(name: str) -> str:
    """The Markdown of a table, by its name in the document."""
    if name in GROUPS:
        return _settings(GROUPS[name])
    return _TABLES[name]()


def renewed(text: str) -> str:
    """A document with its tables written anew."""
    return BLOCK.sub(lambda found: f"<!-- table: {found['name']} -->\n{table(found['name'])}<!-- /table -->\n", text)


def main() -> None:
    """Write the tables of all documents, the JSON Schemas and the examples of events anew."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if renewed(text) != text:
            path.write_text(renewed(text), encoding="utf-8")
    for path, content in generated_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _settings(fields: Iterable[str]) -> str:
    known = Settings.model_fields
    rows = ((f"`{setting_name(name)}`", default_of(known[name]), known[name].description or "") for name in fields)
    return _markdown(("setting", "default", "meaning"), rows)


def _categories() -> str:
    rows = ((f"`{name}`", meaning) for name, meaning in catalogue().categories.items())
    return _markdown(("category", "meaning"), rows)


def _sources() -> str:
    rows = (
        (f"`{name}`", f"[{document.title}]({document.url})" if document.url else document.title, document.date)
        for name, document in catalogue().sources.items()
    )
    return _markdown(("source", "document", "date"), rows)


def _codes() -> str:
    rows = ((_searched(entry), *_explained(entry, entry.symptom)) for entry in catalogue().entries)
    return _markdown(("code and subcode", *_EXPLAINED), rows)


def _posted() -> str:
    """Return a section for each row that people post most. Its heading has the words that they search for."""
    return "".join(map(_section, (entry for entry in catalogue().entries if entry.message or entry.threads)))


def _section(entry: CodeEntry) -> str:
    title = f"{_codes_of(entry)}: {entry.message}" if entry.message else _codes_of(entry)
    threads = ", ".join(f"[{urlsplit(url).path.strip('/').replace('/issues/', '#')}]({url})" for url in entry.threads)
    lines = (
        ("Symptom", entry.symptom or catalogue().symptoms[entry.category]),
        ("Cause", entry.reason),
        ("What to do", entry.action),
        ("Fault owner", f"`{entry.fault_owner}`; a retry {'may succeed' if entry.retryable else 'fails again'}"),
        ("Known from", f"{entry.evidence}, `{entry.source}`{': ' if threads else ''}{threads}"),
    )
    return f"\n### {title}\n\n" + "".join(f"- {name}: {text}\n" for name, text in lines)


def _codes_of(entry: CodeEntry) -> str:
    code = "any code" if entry.code is None else str(entry.code)
    return code if entry.subcode is None else f"{code}/{entry.subcode}"


def _searched(entry: CodeEntry) -> str:
    """Return the codes in both notations that people search for: as Graph's two members, and as in its DiagCode."""
    if entry.subcode is None:
        return f"`{entry.code}` alone"
    return (
        f"any/`{entry.subcode}`"
        if entry.code is None
        else f"`{entry.code}/{entry.subcode}` `{entry.code}#{entry.subcode}`"
    )


_EXPLAINED = ("symptom", "cause", "what to do", "fault owner", "retry?", "category", "source")


def _explained(row: CitedMeaning, symptom: str | None = None) -> tuple[str, ...]:
    return (
        symptom or catalogue().symptoms[row.category],
        row.reason,
        row.action,
        f"`{row.fault_owner}`",
        "yes" if row.retryable else "no",
        f"`{row.category}`",
        f"{row.evidence}, `{row.source}`",
    )


def _code_classes() -> str:
    rows = ((f"{each.first} to {each.last}", *_explained(each)) for each in catalogue().classes)
    return _markdown(("codes", *_EXPLAINED), rows)


def _telephone() -> str:
    families = catalogue().families
    rows = (
        (
            str(codes.first) if codes.first == codes.last else f"{codes.first} to {codes.last}",
            ", ".join(f"`{family.prefix}{codes.first}`" for family in families),
            codes.meaning,
            f"`{codes.fault_owner}`",
            "yes" if codes.retryable else "no",
            f"`{codes.category}`",
        )
        for codes in catalogue().sip_codes
    )
    return _markdown(("SIP code", "subcode", "cause", "fault owner", "retry?", "category"), rows)


def _named_reasons() -> str:
    rows = ((f"`{named.termination_reason}`", *_explained(named)) for named in catalogue().named)
    return _markdown(("terminationReason", *_EXPLAINED), rows)


def _fault_owners() -> str:
    return _markdown(
        ("faultOwner", "who can change it"), ((f"`{name}`", who) for name, who in catalogue().fault_owners.items())
    )


def _keep_alive_failures() -> str:
    rows = (
        (
            f"`{word}`",
            row.reason,
            row.action,
            f"`{row.fault_owner}`",
            "yes" if row.retryable else "no",
            f"`{row.category}`",
        )
        for word, row in catalogue().by_word.items()
    )
    return _markdown(("reason", "cause", "what to do", "fault owner", "retry?", "category"), rows)


def _log_events() -> str:
    rows = (
        (f"`{event.name}`", LEVELS[event.level], event.meaning, _names(event.fields) or "none")
        for event in log_events()
    )
    return _markdown(("event", "level", "meaning", "fields"), rows)


def _metrics() -> str:
    rows = (
        (f"`{metric.name}`", metric.kind, f"`{metric.unit}`", metric.meaning, _names(metric.attributes) or "nothing")
        for metric in metrics()
    )
    return _markdown(("metric", "kind", "unit", "meaning", "split by"), rows)


def _guards() -> str:
    known = Settings.model_fields
    rows = ((f"`{setting_name(name)}`", default_of(known[name]), kept) for name, kept in GUARDS.items())
    return _markdown(("setting", "default", "what the default keeps shut"), rows)


def _attacks() -> str:
    from tests.system.attacks.corpus import MEANINGS, counts  # noqa: PLC0415 (it makes keys)

    found = counts()
    rows = [(kind, MEANINGS[kind], str(refused), str(let_in or "")) for kind, refused, let_in in found]
    total = ("all", "", str(sum(row[1] for row in found)), str(sum(row[2] for row in found)))
    return _markdown(("kind", "what is tried", "refused", "odd but genuine, let in"), [*rows, total])


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _instances[Kind](kind: type[Kind]) -> list[Kind]:
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(shared.__path__, "shared.")]
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, kind)}
    return list(found.values())


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _members(entry: type[BaseModel]) -> str:
    fields = {field.alias: field for field in entry.model_fields.values() if field.description}
    rows = ((f"`{name}`", default_of(field), field.description or "") for name, field in fields.items())
    return _markdown(("member", "default", "meaning"), rows)


def licence(name: str) -> str:
    """Return the licence that a package declares, as an SPDX expression or in an older field."""
    declared = metadata(name)
    word = str(declared.get("License-Expression") or declared.get("License") or "").strip()
    if not word or len(word) > MAX_LICENCE_LENGTH:  # some packages have the whole text in this field
        text, kinds = word, [each for each in declared.get_all("Classifier", []) if each.startswith("License ::")]
        of_bsd = "BSD-3-Clause" if "Neither the name" in text else "BSD-2-Clause"
        word = next(
            iter(kinds), of_bsd if "Redistribution and use in source and binary forms" in text else "none declared"
        )
    return ALIASES.get(word, word.rpartition(" :: ")[2])


def _dependencies() -> str:
    pins = PIN.findall((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    return _markdown(("package", "version", "licence"), ((f"`{name}`", pin, licence(name)) for name, pin in pins))


def _entra_errors(advice: Mapping[str, str]) -> str:
    return _markdown(("code", "what it means, and what to do"), ((f"`{code}`", text) for code, text in advice.items()))


def measured(report: str = "performance") -> dict[str, Any]:
    """The results of a run that docs/performance.md tells of."""
    found: dict[str, Any] = json.loads((ROOT / "docs" / f"{report}.json").read_text(encoding="utf-8"))
    return found


def _performance_run(report: str = "performance") -> str:
    run = measured(report)["run"]
    libraries = ", ".join(f"{name} {version}" for name, version in run["libraries"].items())
    rows = (
        ("date", run["date"]),
        ("revision", run.get("revision") or "not noted"),
        ("machine", f"{run['cores']} cores, {run['system']}; load average before: {run['load_before']:.1f}"),
        ("Python", run["python"]),
        ("libraries", libraries),
        ("rounds", f"{run['rounds']}; above 20,000 calls one"),
        ("all of it took", f"{run['minutes']:.0f} minutes"),
    )
    return _markdown(("", ""), rows)


def _performance_goals(report: str = "performance") -> str:
    rows = (
        (goal.text, f"{goal.measured:,.3g}", "met" if goal.met else "**missed**", goal.note)
        for goal in goals(measured(report))
    )
    return _markdown(("goal", "measured", "", "note"), rows)


def _performance_keep_alive() -> str:
    rows = [
        (f"{int(size):,}", f"{title}, {place}", f"{found['processes']:.0f}", *figures_row(found))
        for size, result in measured()["keep_alive"].items()
        for name, title in CONTESTANTS.items()
        for place in SWEEPS
        if (found := result[place].get(name))
    ]
    head = ("calls", "", "processes", "requests/s", "CPU seconds per 1,000", "p99, ms", "peak of a process, MB")
    return _markdown(head, rows)


def _performance_outage() -> str:
    return _markdown(("", ""), outage_rows(measured()["outage"]))


def _performance_profile() -> str:
    return "\n".join(_markdown(head, rows) for head, rows in profile_tables(measured()["profile"]))


def _performance_transactions() -> str:
    found = {int(size): result["next"]["transactions"] for size, result in measured()["keep_alive"].items()}
    kinds = sorted({kind for asked in found.values() for kind in asked["by_kind"]})
    rows = [(kind, *(f"{asked['by_kind'].get(kind, 0):,}" for asked in found.values())) for kind in kinds]
    rows.append(("all, with the watchdog's message", *(f"{asked['a_sweep']:,}" for asked in found.values())))
    rows.append(("per call and hour", *(f"{asked['per_call_and_hour']:.4f}" for asked in found.values())))
    return _markdown(("one sweep of", *(f"{size:,} calls" for size in found)), rows)


def _performance_growth() -> str:
    loads = [cost.Load(calls=calls) for calls in (100, 10_000, 1_000_000)]
    rows = (
        ("sweeps and queue messages", *(f"{cost.sweeps(load) + cost.messages(load):,.0f}" for load in loads)),
        ("their storage transactions", *(f"{cost.sweep_transactions(load):,.0f}" for load in loads)),
        ("executions, all", *(f"{cost.executions(load):,.0f}" for load in loads)),
        ("storage transactions, all", *(f"{cost.transactions(load):,.0f}" for load in loads)),
    )
    return _markdown(("a month of", *(f"{load.calls:,.0f} calls" for load in loads)), rows)


def _performance_webhook() -> str:
    return _markdown(("", *NOTIFICATION_COLUMNS), webhook_rows(measured()["webhook"]))


def _performance_tenants() -> str:
    return _markdown(("", ""), tenant_rows(measured(SHARING)["tenants"]))


def _performance_hang_up() -> str:
    return _markdown(HANG_UP_COLUMNS, hang_up_rows(measured(SHARING)["hang_up"]))


def _performance_relay() -> str:
    return "\n".join(_markdown(head, rows) for head, rows in relay_tables(measured(RELAY)["relay"]))


def _row(kind: str) -> str:
    columns = row_examples()[kind]
    return _markdown(("column", "value"), ((f"`{name}`", f"`{_value(columns[name])}`") for name in columns))


def _value(value: object) -> str:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case bool():
            return str(value).lower()
        case bytes():
            return f"{len(value)} bytes"
        case _:
            return str(value)


def _event_envelope() -> str:
    properties = event_schema(EVENT_TYPES[0])["properties"]
    return _json_members({name: properties[name] for name in properties if name != "data"})


def _event(event_type: str) -> str:
    """Return the members of an event's data, and an example of the event."""
    [data] = event_schema(event_type)["$defs"].values()
    example = json.dumps(json.loads(event_examples()[EVENT_EXAMPLES[event_type]]), indent=2)
    return f"{_json_members(data['properties'])}\n```json {event_type}\n{example}\n```\n"


def _json_members(properties: dict[str, dict[str, Any]]) -> str:
    rows = ((f"`{name}`", _json_type(schema), schema["description"]) for name, schema in properties.items())
    return _markdown(("member", "type", "meaning"), rows)


def _json_type(schema: dict[str, Any]) -> str:
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return " or ".join("time" if kind == "string" and "format" in schema else kind for kind in kinds)


def _performance_cold_start() -> str:
    found = measured()["cold_start"]
    rows = [("import of `function_app`", f"{found['import_ms']:.0f} ms")]
    rows += [(f"of which `{name}`, with what it imports first", f"{took:.0f} ms") for name, took in found["costliest"]]
    rows.append(("the app on disk", f"{found['app_bytes'] / 1e6:.1f} MB"))
    rows.append(("its libraries on disk", f"{found['libraries_bytes'] / 1e6:.1f} MB"))
    return _markdown(("", ""), rows)


_TABLES: dict[str, Callable[[], str]] = {
    "performance-run": _performance_run,
    "performance-goals": _performance_goals,
    "performance-keep-alive": _performance_keep_alive,
    "performance-transactions": _performance_transactions,
    "performance-growth": _performance_growth,
    "performance-outage": _performance_outage,
    "performance-profile": _performance_profile,
    "performance-webhook": _performance_webhook,
    "performance-cold-start": _performance_cold_start,
    "performance-sharing-run": partial(_performance_run, SHARING),
    "performance-sharing-goals": partial(_performance_goals, SHARING),
    "performance-relay-run": partial(_performance_run, RELAY),
    "performance-relay-goals": partial(_performance_goals, RELAY),
    "performance-relay": _performance_relay,
    "performance-tenants": _performance_tenants,
    "performance-hang-up": _performance_hang_up,
    "apps": partial(_members, BotApp),
    "relay-targets": partial(_members, RelayTarget),
    "dependencies": _dependencies,
    "entra-errors": lambda: _entra_errors(ADVICE),
    "entra-errors-for-audience": lambda: _entra_errors(ADVICE_FOR_AUDIENCE),
    "categories": _categories,
    "sources": _sources,
    "codes": _codes,
    "code-classes": _code_classes,
    "posted-codes": _posted,
    "telephone-codes": _telephone,
    "termination-reasons": _named_reasons,
    "fault-owners": _fault_owners,
    "keep-alive-failures": _keep_alive_failures,
    "log-events": _log_events,
    "metrics": _metrics,
    "guards": _guards,
    "attacks": _attacks,
    **{f"row-{kind}": partial(_row, kind) for kind in ROW_KINDS},
    "event-envelope": _event_envelope,
    **{f"event-{EVENT_EXAMPLES[name]}": partial(_event, name) for name in EVENT_TYPES},
}

if __name__ == "__main__":
    main()
