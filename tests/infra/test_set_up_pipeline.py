"""The set-up of the pipeline, against a fake `az` and a fake `gh` that remember what was created."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from infra import azure_rights, commands, parameters, set_up_pipeline
from infra.azure_rights import AUDIENCES, CUSTOM_ROLES, PROVIDERS
from infra.parameters import PARAMETERS
from infra.set_up_pipeline import main
from tests.infra.fake_clouds import NEW, OLD, REPOSITORY, SUBSCRIPTION, TENANT, Clouds, Json, install, installed

ROOT = Path(__file__).parents[2]
BOT = "11111111-0000-4000-8000-000000000001"
ARGUMENTS = ["--repository", REPOSITORY, "--location", "westeurope", "--bot-app-id", BOT]
PRODUCTION = ["--parameters", "infra/params/production.bicepparam"]
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-call-keeper-production"


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Clouds:
    """Run the commands in this process, because a set-up has sixty of them. One test below starts real programs."""
    made = Clouds()
    monkeypatch.setattr(commands, "_run", made.run)
    return made


def subject(clouds: Clouds, environment: str) -> object:
    (credential,) = clouds.credentials[f"id-call-keeper-{environment}"]
    return credential["subject"]


@pytest.mark.parametrize(
    ("oidc", "prefix"),
    [
        pytest.param(NEW, "repo:Someone@77/call-keeper@88", id="created since 2026-07-15, wrong flag"),
        pytest.param(OLD, "repo:Someone/call-keeper", id="created before 2026-07-15"),
        pytest.param(
            {"use_default": True, "use_immutable_subject": True},
            "repo:Someone@77/call-keeper@88",
            id="no prefix, immutable subject",
        ),
        pytest.param({"use_default": True}, "repo:Someone/call-keeper", id="no prefix, as on Enterprise Server"),
    ],
)
def test_the_credential_has_the_subject_that_github_sends(clouds: Clouds, oidc: Json, prefix: str) -> None:
    clouds.oidc = oidc
    assert main(ARGUMENTS) == 0
    assert subject(clouds, "production") == f"{prefix}:environment:production"
    assert subject(clouds, "what-if") == f"{prefix}:environment:what-if"


def test_a_renamed_repository_gets_the_subject_in_the_new_form(clouds: Clouds) -> None:
    clouds.oidc = OLD
    main(ARGUMENTS)
    clouds.oidc = NEW
    assert main(ARGUMENTS) == 0
    assert subject(clouds, "production") == "repo:Someone@77/call-keeper@88:environment:production"


@pytest.mark.parametrize(
    ("oidc", "expected"),
    [
        pytest.param(
            {"use_default": False, "include_claim_keys": ["repository_id"]},
            "include_claim_keys ['repository_id']",
            id="claims of the repository's own",
        ),
        pytest.param(None, "sign in with gh auth login as an administrator", id="no right to read it"),
    ],
)
def test_a_subject_that_github_does_not_return_is_not_guessed(
    clouds: Clouds, capsys: pytest.CaptureFixture[str], oidc: Json | None, expected: str
) -> None:
    clouds.oidc = oidc
    assert main(ARGUMENTS) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert "--subject-prefix" in error
    assert clouds.changes == []
    assert main([*ARGUMENTS, "--subject-prefix", "repository_id:88"]) == 0
    assert subject(clouds, "production") == "repository_id:88:environment:production"


@pytest.mark.parametrize("cloud", AUDIENCES)
def test_the_credential_has_the_audience_that_the_workflow_requests(clouds: Clouds, cloud: str) -> None:
    clouds.cloud = cloud
    assert main(ARGUMENTS) == 0
    (credential,) = clouds.credentials["id-call-keeper-production"]
    workflow = (ROOT / ".github" / "workflows" / "deploy-to.yml").read_text(encoding="utf-8")
    audiences = re.findall(r"vars.AZURE_CLOUD == '(\w+)' && '(\S+)' \|\| '(\S+)'", workflow)
    variables = clouds.variables["production"]
    for name, there, elsewhere in audiences:
        requested = there if variables.get("AZURE_CLOUD") == name else elsewhere
        assert credential["audiences"] == [requested] == [AUDIENCES[cloud]]
    assert audiences


def test_a_cloud_without_the_calls_api_is_refused(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    clouds.cloud = "AzureChinaCloud"
    assert main(ARGUMENTS) == 1
    assert "no calls API in the cloud AzureChinaCloud" in capsys.readouterr().err
    assert clouds.changes == []


def test_a_second_run_changes_nothing(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, *PRODUCTION]) == 0
    clouds.calls = []
    capsys.readouterr()
    assert main([*ARGUMENTS, *PRODUCTION]) == 0
    assert clouds.changes == []
    lines = capsys.readouterr().out.splitlines()
    assert {line.partition(":")[0] for line in lines} == {"there", "note", "ok"}
    assert lines[-1] == "ok: the next push to main deploys to production"


def test_the_variables_are_those_of_the_workflow(clouds: Clouds) -> None:
    assert main([*ARGUMENTS, *PRODUCTION, "--variable", "ALERT_EMAIL=ops@example.com"]) == 0
    variables = clouds.variables
    assert variables[""] == {"DEPLOY": "what-if,production"}
    assert variables["production"] == {
        "AZURE_CLIENT_ID": "client-id-call-keeper-production",
        "AZURE_TENANT_ID": TENANT,
        "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AZURE_RESOURCE_GROUP": "rg-call-keeper-production",
        "BICEP_PARAMETERS": "infra/params/production.bicepparam",
        "GRAPH_APP_ID": BOT,
        "ALERT_EMAIL": "ops@example.com",
        "MANAGEMENT_APP_ID": "app-0",
        "MANAGEMENT_TENANT_ID": TENANT,
    }
    what_if = variables["what-if"]
    assert what_if["AZURE_RESOURCE_GROUP"] == "rg-call-keeper-production"
    read = re.findall(r"vars\.([A-Z_]+)", (ROOT / ".github" / "workflows" / "deploy-to.yml").read_text())
    assert set(variables["production"]) <= set(read)


@pytest.mark.parametrize("parameters", sorted(path.name for path in (ROOT / "infra" / "params").iterdir()))
@pytest.mark.parametrize("environment", ["what-if", "staging", "production"])
def test_the_workflow_finds_every_variable_that_it_checks(clouds: Clouds, environment: str, parameters: str) -> None:
    chosen = ["--environments", "what-if", "staging", "production", "--parameters", f"infra/params/{parameters}"]
    named = ["--variable", "BOT_NAME=sales"] if parameters == "several-bots.bicepparam" else []
    assert main([*ARGUMENTS, *chosen, *named]) == 0
    values = clouds.variables[""] | clouds.variables[environment]
    workflow = (ROOT / ".github" / "workflows" / "deploy-to.yml").read_text(encoding="utf-8")
    read = re.findall(r"^      (\w+): \$\{\{ vars\.(\w+) \}\}$", workflow, re.MULTILINE)
    env = {"PATH": os.defpath, "ENVIRONMENT": environment} | {name: values.get(of, "") for name, of in read}
    script = ["bash", str(ROOT / ".github" / "scripts" / "check-variables.sh")]
    done = subprocess.run(script, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == f"the environment {environment} has what infra/params/{parameters} needs\n"


@pytest.mark.parametrize("path", sorted((ROOT / "infra" / "params").iterdir()), ids=lambda path: path.name)
def test_the_set_up_requires_the_variables_that_the_workflow_checks(path: Path) -> None:
    env = {"PATH": os.defpath, "ENVIRONMENT": "production", "PARAMETERS": str(path)}
    script = ["bash", str(ROOT / ".github" / "scripts" / "check-variables.sh")]
    done = subprocess.run(script, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    missing = done.stdout.partition("the variables ")[2].partition(":")[0].split()
    assert {name for name in missing if not name.startswith("AZURE_")} == parameters.variables_needed(str(path))


def test_each_identity_has_the_roles_that_it_needs_and_no_others(clouds: Clouds) -> None:
    assert main([*ARGUMENTS, *PRODUCTION]) == 0
    roles = {str(role["name"]): str(role["roleName"]) for role in clouds.roles}
    given = {
        (str(item["principalId"]), roles.get(role := str(item["roleDefinitionId"]).rpartition("/")[2], role))
        for item in clouds.assignments
    }
    production, what_if = "principal-id-call-keeper-production", "principal-id-call-keeper-what-if"
    assert given == {
        (production, azure_rights.CONTRIBUTOR),
        (production, azure_rights.ACCESS_ADMINISTRATOR),
        (production, "Call Keeper locks 44444444"),
        (what_if, "Call Keeper what-if 44444444"),
    }
    assert {item["scope"] for item in clouds.assignments} == {SCOPE}
    for custom in clouds.roles:
        assert custom["Actions"] == list(CUSTOM_ROLES[str(custom["roleName"]).removesuffix(" 44444444")])
        assert custom["AssignableScopes"] == [f"/subscriptions/{SUBSCRIPTION}"]


def test_only_the_roles_of_the_template_can_be_assigned(clouds: Clouds) -> None:
    assert main(ARGUMENTS) == 0
    (condition,) = [str(item["condition"]) for item in clouds.assignments if item["condition"]]
    guid = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    roles = (ROOT / "infra" / "modules" / "roles.bicep").read_text(encoding="utf-8")
    assert set(re.findall(guid, condition)) == set(re.findall(guid, roles))
    for action in ("write", "delete"):
        assert f"ActionMatches{{'Microsoft.Authorization/roleAssignments/{action}'}}" in condition
    assert condition.count("(") == condition.count(")")


def test_an_outdated_condition_is_replaced(clouds: Clouds) -> None:
    main(ARGUMENTS)
    for item in clouds.assignments:
        if item["condition"]:
            item["condition"] = "one role more"
    assert main(ARGUMENTS) == 0
    conditions = [item["condition"] for item in clouds.assignments if item["condition"]]
    assert conditions == [azure_rights.assignment_condition()]


def test_a_trial_needs_no_app_registration_and_no_role_for_locks(clouds: Clouds) -> None:
    assert main(ARGUMENTS) == 0
    assert clouds.apps == []
    assert [role["roleName"] for role in clouds.roles] == ["Call Keeper what-if 44444444"]


def test_a_second_subscription_of_the_tenant_has_its_own_custom_roles(clouds: Clouds) -> None:
    assert main([*ARGUMENTS, *PRODUCTION]) == 0
    clouds.subscription = "55555555-0000-4000-8000-000000000001"
    assert main([*ARGUMENTS, *PRODUCTION]) == 0
    scopes = [role["AssignableScopes"] for role in clouds.roles]
    assert scopes == [[f"/subscriptions/{SUBSCRIPTION}"]] * 2 + [[f"/subscriptions/{clouds.subscription}"]] * 2


def test_an_existing_app_registration_is_used_unless_two_have_the_name(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, longer = "call-keeper-management", "call-keeper-management-of-others"
    clouds.apps = [{"appId": "mine", "displayName": ours}, {"appId": "other", "displayName": longer}]
    assert main([*ARGUMENTS, *PRODUCTION]) == 0
    variables = clouds.variables["production"]
    assert variables["MANAGEMENT_APP_ID"] == "mine"
    clouds.apps = [{"appId": "mine", "displayName": ours}, {"appId": "second", "displayName": ours}]
    assert main([*ARGUMENTS, *PRODUCTION]) == 1
    assert "--variable MANAGEMENT_APP_ID=" in capsys.readouterr().err


def test_environments_have_a_branch_and_production_has_a_reviewer(clouds: Clouds) -> None:
    assert main([*ARGUMENTS, "--environments", "staging", "production", "--reviewer", "approver"]) == 0
    environments = clouds.environments
    limited = {"deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True}}
    assert environments["staging"] == limited | {"reviewers": [], "branches": "main"}
    assert environments["production"] == limited | {"reviewers": [{"type": "User", "id": 99}], "branches": "main"}
    assert clouds.variables[""] == {"DEPLOY": "staging,production"}


def test_rules_that_the_owner_set_stay(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    theirs: Json = {"reviewers": [{"type": "Team", "id": 5}]}
    clouds.environments = {"production": dict(theirs)}
    assert main([*ARGUMENTS, "--reviewer", "approver"]) == 0
    assert clouds.environments["production"] == theirs
    assert "nobody must approve" not in capsys.readouterr().out


def test_a_reviewer_is_added_to_an_existing_environment_whose_other_rules_stay(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    main(ARGUMENTS)
    assert "note:  nobody must approve" in capsys.readouterr().out
    clouds.environments["production"]["wait_timer"] = 30
    before = dict(clouds.environments["production"])
    assert main([*ARGUMENTS, "--reviewer", "approver"]) == 0
    assert clouds.environments["production"] == before | {"reviewers": [{"type": "User", "id": 99}]}
    assert "nobody must approve" not in capsys.readouterr().out


@pytest.mark.parametrize("reviewer", [[], ["--reviewer", "approver"]], ids=["without a reviewer", "with a reviewer"])
def test_an_environment_that_a_failed_run_left_without_its_branch_gets_it(clouds: Clouds, reviewer: list[str]) -> None:
    clouds.broken = {"environments/production/deployment-branch-policies": "gh: Bad Gateway (HTTP 502)"}
    assert main(ARGUMENTS) == 1
    assert "branches" not in clouds.environments["production"]
    clouds.broken = {}
    assert main([*ARGUMENTS, *reviewer]) == 0
    assert clouds.environments["production"]["branches"] == "main"


def test_branches_that_the_owner_chose_stay(clouds: Clouds) -> None:
    main(ARGUMENTS)
    clouds.environments["production"]["branches"] = "release/*"
    assert main([*ARGUMENTS, "--reviewer", "approver"]) == 0
    assert clouds.environments["production"]["branches"] == "release/*"


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(None, id="all branches"),
        pytest.param({"protected_branches": True, "custom_branch_policies": False}, id="protected branches"),
    ],
)
def test_the_branch_policy_of_an_existing_environment_stays(clouds: Clouds, policy: Json | None) -> None:
    clouds.environments = {"production": {"deployment_branch_policy": policy}}
    assert main(ARGUMENTS) == 0
    assert clouds.environments["production"] == {"deployment_branch_policy": policy}


def test_an_environment_is_added_to_those_that_are_deployed(clouds: Clouds) -> None:
    clouds.variables = {"": {"DEPLOY": "staging"}}
    assert main([*ARGUMENTS, "--environments", "production"]) == 0
    assert clouds.variables[""] == {"DEPLOY": "staging,production"}


def test_a_plan_without_environments_is_an_error_that_names_the_alternative(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.broken = {"--method PUT": "gh: Upgrade to GitHub Pro (HTTP 403)"}
    assert main(ARGUMENTS) == 1
    error = capsys.readouterr().err
    assert "Upgrade to GitHub Pro" in error
    assert "--repository-variables" in error
    assert main([*ARGUMENTS, "--repository-variables", "--environments", "production"]) == 0
    variables = clouds.variables[""]
    assert variables["AZURE_CLIENT_ID"] == "client-id-call-keeper-production"
    assert variables["DEPLOY"] == "production", "what-if would log in as the identity of production, and fail"


def test_a_dry_run_prints_valid_commands_and_changes_nothing(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, *PRODUCTION, "--reviewer", "approver", "--dry-run"]) == 0
    assert clouds.changes == []
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("       ")]
    assert {command[0] for command in commands} == {"az", "gh"}
    assert lines[-1] == "dry run: nothing was changed"
    (put,) = [command for command in commands if "repos/Someone/call-keeper/environments/production" in command]
    assert json.loads(put[put.index("<<<") + 1])["reviewers"] == [{"type": "User", "id": 99}]


@pytest.mark.parametrize(
    "command", ["identity create", "role assignment create", "variable set DEPLOY", "group create"]
)
def test_an_error_is_one_line_and_a_second_run_continues(
    clouds: Clouds, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    clouds.broken = {command: "(AuthorizationFailed) The client does not have\nauthorization."}
    assert main(ARGUMENTS) == 1
    failed, advice = capsys.readouterr().err.splitlines()
    assert failed.startswith("failed: ")
    assert "(AuthorizationFailed) The client does not have authorization." in failed
    assert advice == commands.RUN_AGAIN
    clouds.broken = {}
    assert main(ARGUMENTS) == 0
    assert clouds.variables[""] == {"DEPLOY": "what-if,production"}


def test_the_set_up_works_with_programs_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(Clouds(), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*ARGUMENTS, "--environments", "production", "--reviewer", "approver"]) == 0
    clouds = installed(tmp_path)
    assert clouds.environments["production"]["reviewers"] == [{"type": "User", "id": 99}]
    assert clouds.variables[""] == {"DEPLOY": "production"}


def test_deployment_is_switched_on_last(clouds: Clouds) -> None:
    main(ARGUMENTS)
    assert "variable set DEPLOY" in clouds.changes[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["--variable", "ALERT_EMAIL=a@example.com"],
            "minimal.bicepparam does not read ALERT_EMAIL",
            id="a variable that is not read",
        ),
        pytest.param(
            ["--parameters", "infra/params/several-bots.bicepparam"],
            "needs --variable BOT_NAME=…",
            id="a variable that is missing",
        ),
        pytest.param(["--environments", "what-if"], "what-if alone deploys nothing", id="what-if alone"),
        pytest.param(["--repository-variables"], "serve one environment", id="one set of variables for two"),
        pytest.param(["--reviewer", "nobody"], "GitHub has no user nobody", id="an unknown reviewer"),
    ],
)
def test_contradictory_arguments_are_refused_in_one_line(
    clouds: Clouds, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main([*ARGUMENTS, *arguments]) == 1
    assert expected in capsys.readouterr().err.splitlines()[0]
    assert clouds.variables.get("", {}) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--repository", "call-keeper"], id="a repository without an owner"),
        pytest.param(["--bot-app-id", "call-keeper"], id="an id that is no GUID"),
        pytest.param(["--variable", "ALERT_EMAIL"], id="a variable without a value"),
        pytest.param(["--variable", "ALERT_EMAIL="], id="a variable with an empty value"),
        pytest.param(["--environments", "test"], id="an unknown environment"),
        pytest.param(["--parameters", "infra/params/prod.bicepparam"], id="a file that does not exist"),
    ],
)
def test_invalid_arguments_are_refused(clouds: Clouds, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main([*ARGUMENTS, *arguments])
    assert clouds.calls == []


def test_the_environments_are_those_of_the_workflow() -> None:
    workflow = (ROOT / ".github" / "workflows" / "deploy.yml").read_text(encoding="utf-8")
    named = re.findall(r"environment: ([\w-]+)$|^      name: (what-if)", workflow, re.MULTILINE)
    assert set(set_up_pipeline.ENVIRONMENTS) == {first or second for first, second in named}
    scripts = (ROOT / ".github" / "scripts" / "infrastructure.sh").read_text(encoding="utf-8")
    assert f"PARAMETERS:={PARAMETERS}" in scripts


def test_every_provider_of_the_templates_is_registered(clouds: Clouds) -> None:
    templates = [path.read_text(encoding="utf-8") for path in (ROOT / "infra").rglob("*.bicep")]
    used = {name for text in templates for name in re.findall(r"'Microsoft\.(\w+)/", text)} - {"Resources"}
    assert used <= set(PROVIDERS)
    main(ARGUMENTS)
    registered = {str(name).lower() for name in clouds.providers}
    assert registered == {f"microsoft.{name}".lower() for name in PROVIDERS}
