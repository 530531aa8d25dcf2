"""checkov's rules for Azure. Each exception has its reason."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.infra.arm import as_arm
from tools.bicep_check.program import Program

ROOT = Path(__file__).parents[2]
# checkov has its own virtual environment, because it pins older versions of packages that the project uses.
CHECKOV = Path(os.environ.get("CHECKOV", ROOT / ".venv" / "checkov" / "bin" / "checkov"))

# checkov cannot follow params: a property that a param sets fails, whatever the default is.
EXCEPTIONS: Mapping[str, str] = {
    "CKV_AZURE_17": "Graph and bots authenticate with tokens and have no client certificates",
    "CKV_AZURE_35": "decided by the param privateNetwork: Flex Consumption has no fixed addresses to allow",
    "CKV_AZURE_36": "no Azure service needs access past the firewall; the app has a role and a private endpoint",
    "CKV_AZURE_43": "the name is a param of 3 to 24 characters; bicep_check compares it with the published pattern",
    "CKV_AZURE_78": "Flex Consumption refuses ftpsState; basicPublishingCredentialsPolicies/ftp disables FTP",
    "CKV_AZURE_206": "decided by the param storageSku; production has ZRS",
    "CKV_AZURE_212": "Flex Consumption scales by itself; the param alwaysReadyHttp keeps instances running",
    "CKV_AZURE_213": "Flex Consumption has no health check path; the availability test requests /api/health",
    "CKV_AZURE_222": "Graph calls the webhook from the internet",
    "CKV_AZURE_225": "decided by the param zoneRedundant; production has it",
}


@pytest.mark.skipif(not CHECKOV.exists(), reason="checkov has an environment of its own: make checkov")
def test_checkov_finds_only_the_listed_exceptions(tmp_path: Path) -> None:
    """checkov gets ARM JSON: its own reader of Bicep knows neither `string[]` nor a ternary over several lines."""
    program = Program.of_folder(ROOT / "infra")
    for path in program.names(".bicep"):
        (tmp_path / f"{path.replace('/', '-')}.json").write_text(json.dumps(as_arm(program, path)), encoding="utf-8")
    command = [str(CHECKOV), "--directory", str(tmp_path), "--framework", "arm", "--skip-download", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    results = json.loads(done.stdout)["results"]
    assert results["parsing_errors"] == []
    assert len(results["passed_checks"]) >= 20
    assert {found["check_id"]: found["check_name"] for found in results["failed_checks"]}.keys() == EXCEPTIONS.keys()
