"""The command line: prints one line per finding, and ends with 1 if there is any."""

import argparse
import sys
from pathlib import Path

from tools.bicep_check.check import check
from tools.bicep_check.program import Program

NO_FINDINGS, FINDINGS, NOTHING_TO_CHECK = 0, 1, 2


def main() -> int:
    """Check a folder of Bicep; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bicep_check",
        description="Check Bicep files without Microsoft's compiler.",
        epilog="Ends with 0 if there is no finding, 1 if there is one, 2 if there is nothing to check.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("infra"), help="the folder of the files (infra)")
    folder: Path = parser.parse_args().folder
    program = Program.of_folder(folder)
    files = [*program.names(".bicep"), *program.names(".bicepparam")]
    if not files:
        print(f"bicep_check: there is no .bicep or .bicepparam file in {folder}", file=sys.stderr)
        return NOTHING_TO_CHECK
    result = check(program)
    for finding in result.findings:
        print(f"{folder.as_posix()}/{finding}")
    print(f"bicep_check: {len(files)} files, {len(result.findings)} findings, {len(result.suppressed)} suppressed")
    return FINDINGS if result.findings else NO_FINDINGS


if __name__ == "__main__":
    sys.exit(main())
