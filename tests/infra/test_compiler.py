"""Microsoft's compiler and linter on our own files, if they are installed here. The workflow always runs them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / ".github" / "scripts"
PINNED = (SCRIPTS / "bicep-version").read_text(encoding="utf-8").strip()


def compiler_folder() -> Path | None:
    """Return the folder of the pinned compiler: one of the PATH, or the one in which `az bicep install` puts it."""
    of_azure_cli = Path(os.environ.get("AZURE_CONFIG_DIR", Path.home() / ".azure")) / "bin"
    for found in (shutil.which("bicep"), shutil.which("bicep", path=of_azure_cli)):
        if found and f" {PINNED} " in _output(found, "--version"):
            return Path(found).parent
    return None


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.skipif(
    compiler_folder() is None,
    reason=f"Bicep {PINNED} is not installed, so only tools/bicep_check ran: run .github/scripts/install-bicep.sh",
)
@pytest.mark.timeout(600)
def test_microsofts_compiler_and_linter_find_nothing() -> None:
    path = f"{compiler_folder()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", SCRIPTS / "bicep.sh"],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def install(folder: Path, version: str) -> None:
    """Put a program that only tells its version in place of the compiler."""
    folder.mkdir(parents=True)
    (folder / "bicep").write_text(f"#!/bin/sh\necho 'Bicep CLI version {version} (0a1b2c3d4e)'\n", encoding="utf-8")
    (folder / "bicep").chmod(0o755)


@pytest.mark.parametrize(
    ("on_path", "of_azure_cli", "expected"),
    [
        pytest.param(PINNED, None, "path", id="on the PATH"),
        pytest.param(None, PINNED, "azure/bin", id="installed by az"),
        pytest.param("0.1.2", PINNED, "azure/bin", id="another version on the PATH"),
        pytest.param(f"{PINNED}1", None, None, id="a version that begins alike"),
        pytest.param(None, None, None, id="nowhere"),
    ],
)
def test_the_pinned_compiler_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_path: str | None,
    of_azure_cli: str | None,
    expected: str | None,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "azure"))
    for version, folder in ((on_path, tmp_path / "path"), (of_azure_cli, tmp_path / "azure" / "bin")):
        if version:
            install(folder, version)
    assert compiler_folder() == (tmp_path / expected if expected else None)
