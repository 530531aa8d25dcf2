"""Types of command-line arguments that several commands share."""

import argparse
import re
import uuid

from infra.commands import ROOT


def guid(text: str) -> str:
    """Parse a GUID, and return it in lower case with hyphens."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a GUID") from None


def parameter_file(text: str) -> str:
    """Check that a parameter file exists; the argument is its path from the repository's folder."""
    if not (ROOT / text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not in this repository")
    return text


def variable(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, _, value = text.partition("=")
    if not (value and re.fullmatch(r"[A-Z_]+", name)):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=VALUE")
    return name, value
