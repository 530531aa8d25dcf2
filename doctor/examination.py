"""Makes all checks at once, each by itself: one that fails or hangs holds up no other."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from doctor import (
    checks_app,
    checks_azure,
    checks_graph,
    checks_notifications,
    checks_records,
    checks_schedule,
    checks_settings,
    checks_storage,
    checks_token,
    checks_webhook,
)
from doctor.check import Check
from doctor.finding import CannotCheck, Finding, Mark
from doctor.patient import Patient
from shared.errors import traceback_summary

CHECKS: tuple[Check, ...] = (
    checks_settings.settings,
    checks_settings.cloud,
    checks_app.python,
    checks_app.functions,
    checks_app.host_json,
    checks_app.requirements,
    checks_app.host_id,
    checks_schedule.schedule,
    checks_schedule.timing,
    checks_schedule.switches,
    checks_storage.host_storage,
    checks_storage.storage,
    checks_token.token,
    checks_graph.graph,
    checks_graph.permission,
    checks_graph.clock,
    checks_notifications.notifications,
    checks_notifications.management,
    checks_webhook.webhook,
    checks_webhook.health,
    checks_records.sweeps,
    checks_records.poison,
    checks_records.leases,
    checks_azure.deployment,
    checks_azure.deployed_functions,
    checks_azure.roles,
    checks_azure.consent,
)

PATIENCE = 90.0  # seconds for one check
TELL_AFTER = 2.0  # seconds until those still under way are told, and from then on

type Tell = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a check came to."""

    check: Check
    findings: tuple[Finding, ...]

    @property
    def mark(self) -> Mark:
        """The worst of its findings."""
        marks = {finding.mark for finding in self.findings}
        return next((mark for mark in (Mark.FAIL, Mark.WARN, Mark.SKIP) if mark in marks), Mark.OK)


async def examine(patient: Patient, checks: Iterable[Check] = CHECKS, tell: Tell = lambda _names: None) -> list[Result]:
    """Make the checks; the results are in their order. `tell` is given the names of those that take their time."""
    fitting = [each for each in checks if patient.deployment or not each.deployed]
    tasks = [asyncio.create_task(_make(each, patient), name=each.name) for each in fitting]
    waiting = set(tasks)
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=TELL_AFTER)
        if waiting:
            tell([task.get_name() for task in tasks if task in waiting])
    return [task.result() for task in tasks]


async def _make(each: Check, patient: Patient) -> Result:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for finding in each.ask(patient):
                found.append(finding)  # noqa: PERF401 what was found before an error counts
    except CannotCheck as error:
        found.append(Finding(Mark.SKIP, each.name, str(error)))
    except TimeoutError:
        found.append(Finding(Mark.SKIP, each.name, f"not done within {PATIENCE:.0f} s"))
    except Exception as error:  # noqa: BLE001 a check's own mistake must not hide what the others find
        found.append(Finding(Mark.SKIP, each.name, f"unexpected {type(error).__name__} ({traceback_summary(error)})"))
    return Result(each, tuple(found))
