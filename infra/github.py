"""What a pipeline needs at GitHub: the subject of its tokens, environments, variables. All by `gh`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.commands import CommandError, Json, Steps, as_object, asked, found, objects

ISSUER = "https://token.actions.githubusercontent.com"
_PLANS = (
    "Environments of a private repository need GitHub Pro, Team or Enterprise, and required reviewers there need "
    "Enterprise. Without them: --repository-variables, see docs/deploy-github.md"
)


def subject_prefix(repository: str) -> str:
    """Tell how the subject of this repository's tokens begins, as GitHub will send it.

    Repositories made, renamed or transferred since 2026-07-15 have their ids in it, others have them if they opted in:
    `repo:<owner>@<owner id>/<name>@<id>`. GitHub tells the prefix that it uses; the flag beside it is not reliable.

    Raises
    ------
    CommandError
        GitHub does not tell, or the subject is a custom one.
    """
    path = f"repos/{repository}/actions/oidc/customization/sub"
    told = as_object(found("gh", "api", path))
    if not told:
        raise CommandError(
            f"gh api {path} shows nothing: sign in with gh auth login as an administrator of {repository}, "
            "or give the subject by --subject-prefix"
        )
    if told.get("use_default") is False:
        raise CommandError(
            f"{repository} has an OIDC subject of its own (include_claim_keys {told.get('include_claim_keys')}): "
            "give what stands before :environment: by --subject-prefix"
        )
    if prefix := told.get("sub_claim_prefix"):
        return str(prefix)
    return _built_prefix(repository, immutable=told.get("use_immutable_subject") is True)


def _built_prefix(repository: str, *, immutable: bool) -> str:
    """Build the prefix for a server that does not tell it, such as GitHub Enterprise Server."""
    told = as_object(asked("gh", "api", f"repos/{repository}"))
    if not immutable:
        return f"repo:{told['full_name']}"  # upper and lower case as GitHub has them
    owner = as_object(told.get("owner"))
    return f"repo:{owner['login']}@{owner['id']}/{told['name']}@{told['id']}"


@dataclass(frozen=True)
class Environment:
    """A GitHub environment: which branch may deploy to it, and who must approve."""

    name: str
    branch: str | None = None
    reviewers: tuple[str, ...] = ()


def make_environment(steps: Steps, repository: str, environment: Environment) -> bool:
    """Make an environment unless it exists. Of one that exists the rules stay; reviewers are added if it has none.

    An environment that takes chosen branches but names none is one that an earlier run left half made: it gets the
    branch. Without that GitHub refuses every deployment.

    Returns
    -------
    bool
        Whether someone must approve its deployments.

    Raises
    ------
    CommandError
        GitHub refuses it; on a private repository most often since the plan does not include it.
    """
    path = f"repos/{repository}/environments/{environment.name}"
    there = as_object(found("gh", "api", path))
    approved = "required_reviewers" in _rules(there)
    if there and (approved or not environment.reviewers):
        steps.there(f"environment {environment.name}, with the rules that it has")
    else:
        _put_environment(steps, path, environment, there)
    if environment.branch and (not there or _names_no_branch(path, there)):
        what = f"environment {environment.name} takes the branch {environment.branch} alone"
        _send(steps, what, "POST", f"{path}/deployment-branch-policies", {"name": environment.branch})
    return approved or bool(environment.reviewers)


def _put_environment(steps: Steps, path: str, environment: Environment, there: Json) -> None:
    custom: Json = {"protected_branches": False, "custom_branch_policies": True}
    body: Json = {
        "reviewers": [{"type": "User", "id": _user(login)} for login in environment.reviewers],
        "deployment_branch_policy": custom if environment.branch else None,
    }
    if there:  # GitHub takes what is not named for taken away
        body["deployment_branch_policy"] = there.get("deployment_branch_policy")
        body["wait_timer"] = _rules(there).get("wait_timer", {}).get("wait_timer", 0)
    try:
        _send(steps, f"environment {environment.name}", "PUT", path, body)
    except CommandError as error:
        raise CommandError(f"{error}. {_PLANS}") from error


def _rules(environment: Json) -> dict[str, Json]:
    return {str(rule.get("type")): rule for rule in objects(environment.get("protection_rules"))}


def _names_no_branch(path: str, there: Json) -> bool:
    """Tell whether an environment takes the branches of a list, and the list is empty."""
    if as_object(there.get("deployment_branch_policy")).get("custom_branch_policies") is not True:
        return False
    listed = as_object(asked("gh", "api", f"{path}/deployment-branch-policies"))
    return not objects(listed.get("branch_policies"))


def set_variables(steps: Steps, repository: str, environment: str | None, values: Mapping[str, str]) -> None:
    """Set variables of an environment, or of the repository if none is named. None of them is a secret."""
    where = ("--repo", repository, *(("--env", environment) if environment else ()))
    there = _variables(where)
    for name, value in values.items():
        what = f"variable {name}={value} of {environment or repository}"
        if there.get(name) == value:
            steps.there(what)
        else:
            steps.change(what, "gh", "variable", "set", name, *where, "--body", value)


def switch_on(steps: Steps, repository: str, environments: Sequence[str]) -> None:
    """Add environments to the repository variable DEPLOY, without which nothing is deployed."""
    before = _variables(("--repo", repository)).get("DEPLOY", "").split(",")
    set_variables(steps, repository, None, {"DEPLOY": ",".join(dict.fromkeys(filter(None, [*before, *environments])))})


def _variables(where: Sequence[str]) -> dict[str, str]:
    listed = objects(found("gh", "variable", "list", *where, "--json", "name,value"))
    return {str(item["name"]): str(item["value"]) for item in listed}


def _user(login: str) -> int:
    told = as_object(found("gh", "api", f"users/{login}"))
    if not isinstance(told.get("id"), int):
        raise CommandError(f"GitHub has no user {login}: --reviewer takes login names")
    return int(str(told["id"]))


def _send(steps: Steps, what: str, method: str, path: str, body: Json) -> None:
    steps.change(what, "gh", "api", "--method", method, path, "--input", "-", text=json.dumps(body))
