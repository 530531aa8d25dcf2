"""Builders of small function apps, and the real host process that runs them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import httpx

from local.stack.processes import Child, Children

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = (sys.executable, "-m", "local.host")
FUNCTION_KEY = "the-function-key"
MASTER_KEY = "the-master-key"
ENVIRONMENT = {
    "LOCAL_FUNCTION_KEY": FUNCTION_KEY,
    "LOCAL_MASTER_KEY": MASTER_KEY,
    "PYTHONPATH": "",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True, slots=True)
class RunningHost:
    """The host process and an HTTP client for it."""

    child: Child
    client: httpx.Client


def write_app(folder: Path, code: str, host_json: str = '{"version": "2.0"}') -> Path:
    """Write a function app to a folder, and return the folder. Common imports precede the code."""
    imports = "import asyncio, logging, time, typing\nimport azure.functions as func\n\n"
    (folder / "function_app.py").write_text(imports + dedent(code), encoding="utf-8")
    (folder / "host.json").write_text(host_json, encoding="utf-8")
    return folder


@contextmanager
def running(root: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[RunningHost]:
    """Run the host on a free port until the end of the block."""
    command = [*HOST, "--root", str(root), "--port", "0", *arguments]
    with Children() as children:
        child = children.start("host", command, env={**ENVIRONMENT, **(env or {})}, cwd=REPOSITORY)
        url = child.wait_for(r"^host ready: (http://\S+)$")[1]
        with httpx.Client(base_url=url) as client:
            yield RunningHost(child, client)


def started(root: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a host that ends by itself, and return its output."""
    return subprocess.run(
        [*HOST, "--root", str(root), *arguments],
        env={**os.environ, **ENVIRONMENT, **(env or {})},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
