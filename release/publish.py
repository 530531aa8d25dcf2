"""A package to a function app, and the proof that it runs there: `python -m release.publish push|prove`.

`func azure functionapp publish` and `az functionapp deployment source config-zip` do the same upload, but then ask
`/admin/host/status`, which admin isolation shuts, and call a deployment that went well unhealthy.

The role Website Contributor on the app suffices: its actions, Microsoft.Web/sites/*, hold the upload, the list of
functions, the names of settings (config/list) and the function key (host/listkeys).
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from release import azure
from release.azure import AzureError
from release.proof import STEADY, prove
from release.push import carries_libraries, push
from release.site import tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Push or prove; the exit code."""
    args = _parser().parse_args(arguments)
    try:
        app = azure.find(args.app, args.group)
        if args.command == "push":
            package = Path(args.package)
            needed = args.remote_build_if_needed and not carries_libraries(package)
            push(app, package, azure.token(), remote_build=args.remote_build or needed)
        else:
            names = Path(args.expected)
            expected = names.read_text(encoding="utf-8").split()
            prove(app, expected, _build_beside(names), timedelta(seconds=args.steady))
    except (AzureError, OSError) as error:
        print(f"publish: failed: {error}", file=sys.stderr)
        return 1
    return 0


def _build_beside(names: Path) -> str | None:
    """Read the id of the package from the file beside the names of its functions; an old package has none."""
    path = names.with_suffix("").with_suffix(".build.txt")
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    tell(f"{path} is not there, so the package has no build id, and health must tell none")
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release.publish", description="Deploy a package, and prove it.")
    commands = parser.add_subparsers(dest="command", required=True)
    pushing = commands.add_parser("push", help="upload a package, and wait until Azure has put it in place")
    pushing.add_argument("--package", default="dist/call-keeper.zip", help="default: %(default)s")
    building = pushing.add_mutually_exclusive_group()
    building.add_argument(
        "--remote-build",
        action="store_true",
        help="have Azure install requirements.txt anew, instead of running the libraries that the package carries",
    )
    building.add_argument(
        "--remote-build-if-needed",
        action="store_true",
        help="have Azure install requirements.txt if the package carries no libraries, as an old one",
    )
    proving = commands.add_parser("prove", help="look at settings, functions, health and the function key")
    names = "dist/call-keeper.functions.txt"
    proving.add_argument(
        "--expected",
        default=names,
        metavar="FILE",
        help="names, one a line; the id of the package is beside it, in .build.txt (default: %(default)s)",
    )
    steady = STEADY.total_seconds()
    proving.add_argument(
        "--steady", type=float, default=steady, help="seconds that health must be well on end (default: %(default)g)"
    )
    for command in (pushing, proving):
        command.add_argument("--app", required=True, help="the function app's name")
        command.add_argument("--group", required=True, help="its resource group")
    return parser


if __name__ == "__main__":
    sys.exit(main())
