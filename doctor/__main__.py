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
from doctor.veil import Veil

_NO_SETTINGS = (
    "doctor: there are no settings here: copy local.settings.example.json to local.settings.json, or export them.\n"
    "doctor: what make up runs has settings of its own. Is it well? --only health --url http://127.0.0.1:7071"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine and report: 0 if nothing must be mended, 1 otherwise, 2 for wrong options."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if bool(args.app) != bool(args.resource_group):
        parser.error("--app and --resource-group belong together")
    logging.disable(logging.CRITICAL)  # what the parts log, the findings say
    warnings.simplefilter("ignore")
    try:
        return asyncio.run(_examine(args))
    except (AzureError, SettingsUnreadable) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m doctor", description="Say why Call Keeper does not work, here or in Azure."
    )
    parser.add_argument("--app", metavar="NAME", help="a deployed function app, asked by the Azure CLI's login")
    parser.add_argument("--resource-group", metavar="GROUP", help="the resource group of that app")
    parser.add_argument("--subscription", help="its subscription, if it is not the Azure CLI's default")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="the app's folder (default: this one)")
    parser.add_argument("--tenant", metavar="ID", help="the tenant to ask a token for (default: GRAPH_TENANT_ID)")
    parser.add_argument("--webhook", metavar="URL", help="the public address that Graph posts to")
    parser.add_argument("--url", help="the address of a running host, such as http://127.0.0.1:7071")
    parser.add_argument("--only", metavar="CHECK,…", help="make these checks alone")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--verbose", action="store_true", help="a line for what is well, too")
    return parser


async def _examine(args: argparse.Namespace) -> int:
    root = args.root.resolve()
    deployment: Deployment | None = None
    if args.app:
        deployment, settings = await read_deployment(args.app, args.resource_group, args.subscription)
    else:
        settings = local_settings(root)
        if not args.only and "GRAPH_APP_ID" not in settings:
            print(_NO_SETTINGS, file=sys.stderr, flush=True)
        _export(settings)
    from doctor import report  # noqa: PLC0415 the libraries read the environment, SSL_CERT_FILE above all
    from doctor.examination import CHECKS, examine  # noqa: PLC0415 as above
    from doctor.patient import Options, Patient  # noqa: PLC0415 as above
    from doctor.probe import make_client  # noqa: PLC0415 as above

    wanted = set(filter(None, map(str.strip, (args.only or "").split(","))))
    if unknown := wanted - {check.name for check in CHECKS}:
        names = ", ".join(check.name for check in CHECKS)
        print(f"doctor: there is no check {', '.join(sorted(unknown))}. There are: {names}", file=sys.stderr)
        return 2
    async with make_client() as client:
        patient = Patient(Options(root, args.tenant, args.webhook, args.url), settings, client, deployment)
        results = await examine(patient, [check for check in CHECKS if check.name in wanted or not wanted], _progress)
    veil = Veil(settings)
    if args.json:
        print(report.as_json(results, veil))
    else:
        report.as_text(results, veil, sys.stdout, verbose=args.verbose)
    return 1 if report.failed(results) else 0


def _export(settings: Mapping[str, str]) -> None:
    """As the host does with local.settings.json: libraries read some of it."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _progress(names: Sequence[str]) -> None:
    print(f"doctor: still asking: {', '.join(names)} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
