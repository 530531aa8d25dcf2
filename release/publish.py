"""Uploads a package to a function app, and proves that it runs there: `python -m release.publish push|prove`.

`func azure functionapp publish` and `az functionapp deployment source config-zip` do the same upload. But then they
request `/admin/host/status`, which admin isolation closes, and report a good deployment as unhealthy.

The role Website Contributor on the app suffices. Its actions, Microsoft.Web/sites/*, include the upload, the list of
functions, the names of settings (config/list) and the function key (host/listkeys).
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from release import azure
from release.azure import AzureError
from release.proof import STEADY_TIME, prove
from release.push import has_libraries, push
from release.waiting import print_progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Push or prove, and return the exit code."""
    args = _parser().parse_args(arguments)
    try:
        app = azure.find_app(args.app, args.group)
        if args.command == "push":
            package = Path(args.package)
            needed = args.remote_build_if_needed and not has_libraries(package)
            push(app, package, azure.get_token(), remote_build=args.remote_build or needed)
        else:
            names = Path(args.expected)
            expected = names.read_text(encoding="utf-8").split()
            prove(app, expected, _read_build(names), timedelta(seconds=args.steady))
    except (AzureError, OSError) as error:
        print(f"publish: failed: {error}", file=sys.stderr)
        return 1
    return 0


def _read_build(names: Path) -> str | None:
    """Read the id of the package from the file next to the names of its functions. An old package has none."""
    path = names.with_suffix("").with_suffix(".build.txt")
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    print_progress(f"{path} does not exist: the package has no build id, so health must report none")
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m release.publish", description="Deploy a package, and prove that it runs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pushing = commands.add_parser("push", help="upload a package, and wait until Azure has put it in place")
    pushing.add_argument("--package", default="dist/call-keeper.zip", help="default: %(default)s")
    building = pushing.add_mutually_exclusive_group()
    building.add_argument(
        "--remote-build",
        action="store_true",
        help="let Azure install requirements.txt, instead of the libraries that the package contains",
    )
    building.add_argument(
        "--remote-build-if-needed",
        action="store_true",
        help="let Azure install requirements.txt if the package contains no libraries, as an old one",
    )
    proving = commands.add_parser("prove", help="check settings, functions, health and the function key")
    names = "dist/call-keeper.functions.txt"
    proving.add_argument(
        "--expected",
        default=names,
        metavar="FILE",
        help="names of the functions, one a line; the file next to it, .build.txt, has the id of the package "
        "(default: %(default)s)",
    )
    steady = STEADY_TIME.total_seconds()
    proving.add_argument(
        "--steady",
        type=float,
        default=steady,
        help="seconds for which health must be well without a break (default: %(default)g)",
    )
    for command in (pushing, proving):
        command.add_argument("--app", required=True, help="the function app's name")
        command.add_argument("--group", required=True, help="its resource group")
    return parser


if __name__ == "__main__":
    sys.exit(main())
