"""The scripts for Bicep, with a script in place of Microsoft's compiler."""

import re
from pathlib import Path

import pytest

from tests.release.reading import ROOT
from tests.release.test_scripts import SCRIPTS, Runner

PINNED = (SCRIPTS / "bicep-version").read_text(encoding="utf-8").strip()
# What Microsoft's compiler does with good files, for the commands that the script uses.
COMPILER = """
no() { echo "not completed for the following reason: '$1'" >&2; exit 1; }
case "$*" in
  THE-CASE
  --version) echo "Bicep CLI version PINNED (0a1b2c3d4e)" ;;
  "build infra/"*" --outfile "* | "build-params infra/params/"*" --outfile "*) echo '{}' >"$4" ;;
  "format infra/"*" --stdout") cat "$2" ;;
  "snapshot "*" --mode overwrite "*)
    one=$(grep --only-matching --extended-regexp 'alwaysReady[A-Za-z]+ = 1' "$2" || true)
    [[ -z $one ]] || no "With zones one is refused: set ${one% = 1} to 0, or to 2 or more"
    ! grep --quiet "url: 'http:" "$2" || no "relayTargets: the url of bot does not begin with https://"
    [[ -n ${GRAPH_APP_ID:-} ]] || no "graphAppId is all zeros: set GRAPH_APP_ID"
    echo '{}' >"${2%.bicepparam}.snapshot.json" ;;
  *) echo "no such command: bicep $*" >&2; exit 2 ;;
esac
""".replace("PINNED", PINNED)
BICEP_FILES = {
    "bicepconfig.json": "{}",
    "infra/main.bicep": "param name string\n",
    "infra/main.azd.bicep": "param name string\n",
    "infra/modules/roles.bicep": "param name string\n",
    "infra/params/minimal.bicepparam": "param graphAppId = readEnvironmentVariable('GRAPH_APP_ID', '00000000-0000')\n",
}


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def with_compiler(runner: Runner, case: str = "") -> Runner:
    """Create a project of a few Bicep files, and a compiler that finds only the fault of this case."""
    for path, text in BICEP_FILES.items():
        (runner.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (runner.folder / path).write_text(text, encoding="utf-8")
    runner.has("bicep", COMPILER.replace("THE-CASE", case))
    return runner


def test_each_bicep_file_is_compiled_formatted_and_evaluated_and_none_is_changed(runner: Runner) -> None:
    done = with_compiler(runner).run("bicep.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 templates and 1 parameter files compile without a warning" in done.stdout
    asked = runner.read("asked")
    for path in BICEP_FILES.keys() - {"bicepconfig.json"}:
        command = "build-params" if path.endswith(".bicepparam") else "build"
        assert f"bicep {command} {path} --outfile" in asked
        assert f"bicep format {path} --stdout" in asked
    assert (
        asked.count("bicep snapshot ") == 5
    )  # 1 accepted + 1 refused without its variable + 2 with zones + 1 with http
    files = {path.relative_to(runner.folder).as_posix() for path in runner.folder.rglob("*") if path.is_file()}
    assert files - {"asked", "bin/bicep"} == BICEP_FILES.keys()
    assert {path: runner.read(path) for path in BICEP_FILES} == BICEP_FILES


WARNING = "/w/infra/modules/roles.bicep(3,7) : Warning BCP037: The property httpOnly is not allowed."


@pytest.mark.parametrize(
    ("case", "file", "message"),
    [
        (f'"build infra/modules/roles.bicep "*) echo "{WARNING}" >&2 ;;', "modules/roles.bicep", "has a warning"),
        (f'"build infra/modules/roles.bicep "*) echo "{WARNING}" ;;', "modules/roles.bicep", "has a warning"),
        ('"build infra/main.bicep "*) echo "WARNING: experimental features" >&2 ;;', "main.bicep", "has a warning"),
        (f'build-params*) echo "{WARNING}" >&2 ;;', "params/minimal.bicepparam", "has a warning"),
        ('"build infra/main.bicep "*) exit 1 ;;', "main.bicep", "does not compile"),
        ('"build infra/main.bicep "*) echo "main.bicep(1,1) : Error BCP018: x" ;;', "main.bicep", "does not compile"),
        (
            '"format infra/main.bicep "*) echo "param name  string" ;;',
            "main.bicep",
            "run bicep format infra/main.bicep",
        ),
        ('"format infra/main.bicep "*) cat "$2"; exit 1 ;;', "main.bicep", "is not formatted"),
        ('snapshot*minimal*) echo "no such function"; exit 1 ;;', "params/minimal.bicepparam", "does not evaluate"),
        ("snapshot*minimal*) ;;", "params/minimal.bicepparam", "must refuse it with ': set GRAPH_APP_ID'"),
        ("snapshot*Http-with-zones*) ;;", "params/one-alwaysReadyHttp-with-zones.bicepparam", "is accepted, but"),
        ("snapshot*relay-by-http*) ;;", "params/relay-by-http.bicepparam", "is accepted, but"),
        (
            "snapshot*Timer-with-zones*) echo 'no such param'; exit 1 ;;",
            "params/one-alwaysReadyTimer-with-zones.bicepparam",
            "is refused by the lines above, but",
        ),
    ],
    ids=[
        "warning on stderr",
        "warning on stdout",
        "warning without a file",
        "warning in a parameter file",
        "exit code 1",
        "error with exit code 0",
        "other format",
        "formatter fails",
        "parameter file does not evaluate",
        "missing id is accepted",
        "one HTTP instance with zones is accepted",
        "a relay target by http is accepted",
        "refused for another reason",
    ],
)
def test_a_fault_in_a_bicep_file_fails_the_job_and_the_file_is_named(
    runner: Runner, case: str, file: str, message: str
) -> None:
    """The compiler exits with 0 on warnings, and a misspelt property is only a warning."""
    done = with_compiler(runner, case).run("bicep.sh")
    assert done.returncode == 1, done.stdout + done.stderr
    faults = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert any(line.startswith(f"::error file=infra/{file}::infra/{file} ") and message in line for line in faults), (
        faults
    )
    assert "each is named above, with what to do" in done.stdout


def test_a_parameter_file_without_a_testable_refusal_is_a_fault(runner: Runner) -> None:
    with_compiler(runner)
    parameters = runner.folder / "infra" / "params" / "minimal.bicepparam"
    parameters.write_text("param graphAppId = readEnvironmentVariable( 'GRAPH_APP_ID', '00000000-0000')\n")
    done = runner.run("bicep.sh")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "::infra/params/minimal.bicepparam reads no id whose default is zeros" in done.stdout
    assert "1 faults" in done.stdout


def test_the_compilers_message_is_in_the_log(runner: Runner) -> None:
    done = with_compiler(runner, f'"build infra/main.bicep "*) echo "{WARNING}" >&2 ;;').run("bicep.sh")
    assert WARNING in done.stdout


def test_an_info_of_the_compiler_fails_nothing(runner: Runner) -> None:
    """The rule use-recent-api-versions is only an info, because a version becomes old without a change of files."""
    message = "main.bicep(1,1) : Info use-recent-api-versions: Use a more recent API version."
    done = with_compiler(runner, f'"build infra/main.bicep "*) echo "{message}" >&2 ;;').run("bicep.sh")
    assert done.returncode == 0
    assert message in done.stdout


def test_another_version_of_the_compiler_is_not_used(runner: Runner) -> None:
    done = with_compiler(runner, f'--version) echo "Bicep CLI version {PINNED}1 (0a1b2c3d4e)" ;;').run("bicep.sh")
    assert done.returncode == 1
    assert f"Bicep {PINNED} is not on the PATH: run .github/scripts/install-bicep.sh" in done.stdout
    assert "build" not in runner.read("asked")


def test_a_folder_without_bicep_is_no_success(runner: Runner) -> None:
    runner.has("bicep", COMPILER.replace("THE-CASE", ""))
    done = runner.run("bicep.sh")
    assert done.returncode == 1
    assert "run this script in the project's folder" in done.stdout


def test_the_script_gives_each_variable_that_a_parameter_file_reads() -> None:
    given = set(re.findall(r"^  ([A-Z_]+)=", (SCRIPTS / "bicep.sh").read_text(encoding="utf-8"), re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "infra" / "params").glob("*.bicepparam")]
    assert given == {name for text in texts for name in re.findall(r"readEnvironmentVariable\('(\w+)'", text)}


def test_the_pinned_compiler_is_installed_before_the_files_are_checked(runner: Runner) -> None:
    runner.has("az", "true")
    done = runner.run("install-bicep.sh", GITHUB_PATH=str(runner.folder / "path"), AZURE_CONFIG_DIR="/somewhere/azure")
    assert done.returncode == 0, done.stderr
    assert runner.read("asked") == f"az bicep install --version v{PINNED}\n"
    assert runner.read("path") == "/somewhere/azure/bin\n"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"run: \.github/scripts/(\S*bicep\S*)", workflow) == ["install-bicep.sh", "bicep.sh"]


def test_outside_of_a_workflow_the_folder_of_the_compiler_is_printed(runner: Runner) -> None:
    runner.has("az", "true")
    done = runner.run("install-bicep.sh", GITHUB_PATH="", AZURE_CONFIG_DIR="/somewhere/azure")
    assert f"Bicep {PINNED} is in /somewhere/azure/bin: put that folder first on your PATH" in done.stdout
