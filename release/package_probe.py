"""The process of `release.package_check`: it loads the app with the package's own libraries, and invokes a function."""

import asyncio
import contextlib
import ctypes
import json
import sys
from pathlib import Path

from azure_functions_runtime.bindings.datumdef import Datum

from local.host.errors import HostError
from local.host.functions import Function
from local.host.worker import Worker, index


def probe(root: str, invoked: str) -> None:
    """Print the functions and the status of one as JSON, or exit with the reason.

    Parameters
    ----------
    root
        Folder of the unpacked package.
    invoked
        Name of the HTTP function to invoke.
    """
    with contextlib.redirect_stdout(sys.stderr):  # the report must not mix with output of the app's import
        try:
            _load_native_files(Path(root))
            report = asyncio.run(_report(Path(root), invoked))
        except (HostError, OSError) as error:
            sys.exit(" ".join(str(error).split()))
    print(json.dumps(report))


def _load_native_files(root: Path) -> None:
    """Load each native file, if Python uses libraries of the package. This resolves symbols of the C library."""
    site = next((entry for entry in sys.path if Path(entry).is_relative_to(root)), None)
    for path in sorted(Path(site).rglob("*.so")) if site else ():
        ctypes.CDLL(str(path))


async def _report(root: Path, invoked: str) -> dict[str, object]:
    functions = await index(root)
    (function,) = [found for found in functions if found.name == invoked]
    return {"functions": [found.name for found in functions], "status": await _status(function)}


async def _status(function: Function) -> int:
    """Invoke an HTTP function as the host does, with an empty GET, and return the status of its answer."""
    text = {"method": "GET", "url": f"http://127.0.0.1/api/{function.trigger.route}"}
    request = {name: Datum(value, "string") for name, value in text.items()}
    empty: dict[str, Datum] = {}
    outcome = await Worker(None).invoke(
        function,
        Datum({**request, "headers": empty, "query": empty, "params": empty, "body": Datum(b"", "bytes")}, "http"),
    )
    answer = outcome.value_of(function, "http")
    if answer is None:
        raise HostError(f"{function.name} failed: {outcome.error or 'it returned no response'}")
    return int(answer.value["status_code"].value)
