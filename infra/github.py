"""Reads and creates what a pipeline needs at GitHub, by `gh`: subject of its tokens, environments, variables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.commands import CommandError, Json, Steps, as_object, find_json, objects, run_json

ISSUER = "https://token.actions.githubusercontent.com"
_PLANS = (
    "Environments of a private repository need GitHub Pro, Team or Enterprise, and required reviewers there need "
    "Enterprise. Without them: --repository-variables, see docs/deploy-github.md"
)


def subject_prefix(repository: str) -> str:
    """Return the beginning of the subject of this repository's tokens, as GitHub will send it.

    It contains ids if the repository was created, renamed or transferred since 2026-07-15, or opted in:
    `repo:<owner>@<owner id>/<name>@<id>`. GitHub's answer names the prefix; the flag next to it is not reliable.

    Raises
    ------
    CommandError
        GitHub does not answer, or the subject is a custom one.
    """
    path = f"repos/{repository}/actions/oidc/customization/sub"
    oidc = as_object(find_json("gh", "api", path))
    if not oidc:
        raise CommandError(
            f"gh api {path} returns nothing: sign in with gh auth login as an administrator of {repository}, "
            "or give the subject by --subject-prefix"
        )
    if oidc.get("use_default") is False:
        raise CommandError(
            f"{repository} has a custom OIDC subject (include_claim_keys {oidc.get('include_claim_keys')}): "
            "give the part before :environment: by --subject-prefix"
        )
    if prefix := oidc.get("sub_claim_prefix"):
        return str(prefix)
    return _built_prefix(repository, immutable=oidc.get("use_immutable_subject") is True)


def _built_prefix(repository: str, *, immutable: bool) -> str:
    """Build the prefix for a server that does not return it, such as GitHub Enterprise Server."""
    shown = as_object(run_json("gh", "api", f"repos/{repository}"))
    if not immutable:
        return f"repo:{shown['full_name']}"  # in the upper and lower case that GitHub stores
    owner = as_object(shown.get("owner"))
    return f"repo:{owner['login']}@{owner['id']}/{shown['name']}@{shown['id']}"


@dataclass(frozen=True)
class Environment:
    """A GitHub environment: the branch that may deploy to it, and the users of whom one must approve."""

    name: str
    branch: str | None = None
    reviewers: tuple[str, ...] = ()


def make_environment(steps: Steps, repository: str, environment: Environment) -> bool:
    """Create an environment unless it exists. An existing one keeps its rules; reviewers are added if it has none.

    If an environment accepts only chosen branches but names none, an earlier run did not complete it. It then gets the
    branch, because GitHub would refuse every deployment.

    Returns
    -------
    bool
        True if someone must approve its deployments.

    Raises
    ------
    CommandError
        GitHub refuses it; for a private repository mostly because the plan does not include environments.
    """
    path = f"repos/{repository}/environments/{environment.name}"
    existing = as_object(find_json("gh", "api", path))
    approved = "required_reviewers" in _rules(existing)
    if existing and (approved or not environment.reviewers):
        steps.report_existing(f"environment {environment.name}, with the rules that it has")
    else:
        _put_environment(steps, path, environment, existing)
    if environment.branch and (not existing or _names_no_branch(path, existing)):
        what = f"environment {environment.name} accepts only the branch {environment.branch}"
        _send(steps, what, "POST", f"{path}/deployment-branch-policies", {"name": environment.branch})
    return approved or bool(environment.reviewers)


def _put_environment(steps: Steps, path: str, environment: Environment, existing: Json) -> None:
    custom: Json = {"protected_branches": False, "custom_branch_policies": True}
    body: Json = {
        "reviewers": [{"type": "User", "id": _user(login)} for login in environment.reviewers],
        "deployment_branch_policy": custom if environment.branch else None,
    }
    if existing:  # GitHub removes every rule that the request does not name
        body["deployment_branch_policy"] = existing.get("deployment_branch_policy")
        body["wait_timer"] = _rules(existing).get("wait_timer", {}).get("wait_timer", 0)
    try:
        _send(steps, f"environment {environment.name}", "PUT", path, body)
    except CommandError as error:
        raise CommandError(f"{error}. {_PLANS}") from error


def _rules(environment: Json) -> dict[str, Json]:
    return {str(rule.get("type")): rule for rule in objects(environment.get("protection_rules"))}


def _names_no_branch(path: str, existing: Json) -> bool:
    """True if an environment accepts the branches of a list, and the list is empty."""
    if as_object(existing.get("deployment_branch_policy")).get("custom_branch_policies") is not True:
        return False
    listed = as_object(run_json("gh", "api", f"{path}/deployment-branch-policies"))
    return not objects(listed.get("branch_policies"))


def set_variables(steps: Steps, repository: str, environment: str | None, values: Mapping[str, str]) -> None:
    """Set variables of an environment, or of the repository if `environment` is None. None of them is a secret."""
    options = ("--repo", repository, *(("--env", environment) if environment else ()))
    existing = _variables(options)
    for name, value in values.items():
        what = f"variable {name}={value} of {environment or repository}"
        if existing.get(name) == value:
            steps.report_existing(what)
        else:
            steps.change(what, "gh", "variable", "set", name, *options, "--body", value)


def enable_deployment(steps: Steps, repository: str, environments: Sequence[str]) -> None:
    """Add environments to the repository variable DEPLOY. The workflow deploys only to the environments in it."""
    before = _variables(("--repo", repository)).get("DEPLOY", "").split(",")
    set_variables(steps, repository, None, {"DEPLOY": ",".join(dict.fromkeys(filter(None, [*before, *environments])))})


def _variables(options: Sequence[str]) -> dict[str, str]:
    listed = objects(find_json("gh", "variable", "list", *options, "--json", "name,value"))
    return {str(item["name"]): str(item["value"]) for item in listed}


def _user(login: str) -> int:
    user = as_object(find_json("gh", "api", f"users/{login}"))
    if not isinstance(user.get("id"), int):
        raise CommandError(f"GitHub has no user {login}: --reviewer takes login names")
    return int(str(user["id"]))


def _send(steps: Steps, what: str, method: str, path: str, body: Json) -> None:
    steps.change(what, "gh", "api", "--method", method, path, "--input", "-", text=json.dumps(body))
