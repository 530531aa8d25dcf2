"""Telemetry that is switched on, but has no connection string."""

import json
import os
import subprocess
import sys

from local.stack.stack import ROOT


def test_without_a_connection_string_the_app_loads_silently() -> None:
    settings = {name: value for name, value in os.environ.items() if "APPLICATIONINSIGHTS" not in name}
    settings |= {"PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true", "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "local.host", "--list"]
    run = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert len(json.loads(run.stdout)) > 10
