"""The list of all checks, and the runner, which runs them concurrently and isolates their failures."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from doctor import (
    checks_app,
    checks_azure,
    checks_graph,
    checks_notifications,
    checks_records,
    checks_relay,
    checks_schedule,
    checks_settings,
    checks_storage,
    checks_token,
    checks_webhook,
)
from doctor.check import Check
from doctor.finding import CannotCheck, Finding, Severity
from doctor.target import Target
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
    checks_relay.relay,
    checks_relay.relay_tokens,
    checks_records.sweeps,
    checks_records.poison,
    checks_records.leases,
    checks_azure.deployment,
    checks_azure.deployed_functions,
    checks_azure.roles,
    checks_azure.consent,
)

CHECK_TIMEOUT = timedelta(seconds=90)
PROGRESS_INTERVAL = timedelta(seconds=2)

type ReportProgress = Callable[[Sequence[str]], None]

_BY_SEVERITY = (Severity.FAIL, Severity.WARN, Severity.SKIP)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check and its findings."""

    check: Check
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """The highest severity of its findings; `OK` if there are none."""
        found = {finding.severity for finding in self.findings}
        return next((severity for severity in _BY_SEVERITY if severity in found), Severity.OK)


async def run_checks(
    target: Target, checks: Iterable[Check] = CHECKS, report_progress: ReportProgress = lambda _names: None
) -> list[CheckResult]:
    """Run the checks concurrently and return their results in the order of `checks`.

    Parameters
    ----------
    target
        The app. Checks of deployed apps are left out if it is not deployed.
    checks
        The checks to run.
    report_progress
        Called every 2 seconds with the names of the checks that still run.
    """
    applicable = [each for each in checks if target.deployment or not each.deployed_only]
    tasks = [asyncio.create_task(_run(each, target), name=each.name) for each in applicable]
    pending = set(tasks)
    while pending:
        _, pending = await asyncio.wait(pending, timeout=PROGRESS_INTERVAL.total_seconds())
        if pending:
            report_progress([task.get_name() for task in tasks if task in pending])
    return [task.result() for task in tasks]


async def _run(check: Check, target: Target) -> CheckResult:
    findings: list[Finding] = []
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            async for finding in check.run(target):
                findings.append(finding)  # noqa: PERF401 findings before an error are kept
    except CannotCheck as error:
        findings.append(Finding(Severity.SKIP, check.name, str(error)))
    except TimeoutError:
        findings.append(
            Finding(Severity.SKIP, check.name, f"not finished within {CHECK_TIMEOUT.total_seconds():.0f} s")
        )
    except Exception as error:  # noqa: BLE001 a defect of one check must not hide the findings of the others
        reason = f"unexpected {type(error).__name__} ({traceback_summary(error)})"
        findings.append(Finding(Severity.SKIP, check.name, reason))
    return CheckResult(check, tuple(findings))
