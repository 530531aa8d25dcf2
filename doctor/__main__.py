"""The command line: `python -m doctor [--app NAME --resource-group GROUP] [--webhook URL] [--json] …`."""

import argparse
import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from doctor.app_settings import SettingsUnreadable, local_settings
from doctor.deployment import AzureError, Deployment, read_deployment
from doctor.redactor import Redactor

_NO_SETTINGS = (
    "doctor: there are no settings: copy local.settings.example.json to local.settings.json, or export them.\n"
    "doctor: make up has its own settings. To check what it runs: --only health --url http://127.0.0.1:7071"
)
EXIT_PROBLEMS = 1
EXIT_WRONG_OPTION = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and print the report.

    Returns
    -------
    int
        0 if no finding is a `FAIL`, 1 otherwise, 2 for wrong options.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    if bool(args.app) != bool(args.resource_group):
        parser.error("--app and --resource-group belong together")
    logging.disable(logging.CRITICAL)  # the findings report what the libraries would log
    warnings.simplefilter("ignore")
    try:
        return asyncio.run(_run(args))
    except (AzureError, SettingsUnreadable) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return EXIT_PROBLEMS
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m doctor", description="Find out why Call Keeper does not work, on this machine or in Azure."
    )
    parser.add_argument("--app", metavar="NAME", help="a deployed function app; needs a login of the Azure CLI")
    parser.add_argument("--resource-group", metavar="GROUP", help="the resource group of that app")
    parser.add_argument("--subscription", help="its subscription (default: the Azure CLI's)")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="the app's folder (default: this one)")
    parser.add_argument("--tenant", metavar="ID", help="the tenant of the test token (default: GRAPH_TENANT_ID)")
    parser.add_argument("--webhook", metavar="URL", help="the public address that Graph sends notifications to")
    parser.add_argument("--url", help="the address of a running host, such as http://127.0.0.1:7071")
    parser.add_argument("--to", metavar="ID", help="an instance of the bot, for a relay target whose url has {to}")
    parser.add_argument("--only", metavar="CHECK,…", help="make these checks only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--verbose", action="store_true", help="print checks without problems too")
    return parser


async def _run(args: argparse.Namespace) -> int:
    root = args.root.resolve()
    deployment: Deployment | None = None
    if args.app:
        deployment, settings = await read_deployment(args.app, args.resource_group, args.subscription)
    else:
        settings = local_settings(root)
        if not args.only and "GRAPH_APP_ID" not in settings:
            print(_NO_SETTINGS, file=sys.stderr, flush=True)
        _export(settings)
    return await _check_and_report(args, root, settings, deployment)


async def _check_and_report(
    args: argparse.Namespace, root: Path, settings: Mapping[str, str], deployment: Deployment | None
) -> int:
    # Imported after the settings are exported: the libraries read the environment at import, above all SSL_CERT_FILE.
    from doctor import report  # noqa: PLC0415
    from doctor.probe import make_client  # noqa: PLC0415
    from doctor.runner import CHECKS, run_checks  # noqa: PLC0415
    from doctor.target import Options, Target  # noqa: PLC0415

    wanted = set(filter(None, map(str.strip, (args.only or "").split(","))))
    if unknown := wanted - {check.name for check in CHECKS}:
        names = ", ".join(check.name for check in CHECKS)
        print(f"doctor: there is no check {', '.join(sorted(unknown))}. The checks are: {names}", file=sys.stderr)
        return EXIT_WRONG_OPTION
    checks = [check for check in CHECKS if check.name in wanted or not wanted]
    async with make_client() as client:
        target = Target(Options(root, args.tenant, args.webhook, args.url, args.to), settings, client, deployment)
        results = await run_checks(target, checks, _print_progress)
    redactor = Redactor(settings)
    if args.json:
        print(report.as_json(results, redactor))
    else:
        report.as_text(results, redactor, sys.stdout, verbose=args.verbose)
    return EXIT_PROBLEMS if report.failed(results) else 0


def _export(settings: Mapping[str, str]) -> None:
    """Set the settings as environment variables, as the host does: libraries read some of them there."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _print_progress(names: Sequence[str]) -> None:
    print(f"doctor: still checking: {', '.join(names)} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
