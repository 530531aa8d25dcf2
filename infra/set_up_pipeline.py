"""Prepares Azure and GitHub for `.github/workflows/deploy.yml`, so that the next push to `main` deploys.

    python3 -m infra.set_up_pipeline --repository <owner>/<name> --location <region> --bot-app-id <id> [--dry-run]

It needs Python 3.10 or newer, `az` and `gh`, both signed in. What is there already stays as it is, so it can be run
again. With `--parameters infra/params/production.bicepparam` it also makes what real calls need: the app registration
of management, and the right to write locks. docs/deploy-github.md says which rights the two accounts need.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra import azure_rights, github, parameters
from infra.azure_rights import Account, Identity
from infra.commands import CommandError, Steps
from infra.deploy import guid
from infra.github import Environment
from infra.parameters import add_parameter_arguments

GROUP = "rg-call-keeper-pipeline"  # outlives deployments
MADE = {"MANAGEMENT_APP_ID", "MANAGEMENT_TENANT_ID"}  # variables whose values are found or made
WHAT_IF = "what-if"
ENVIRONMENTS = (WHAT_IF, "staging", "production")  # those of deploy.yml


@dataclass(frozen=True)
class Wish:
    """What shall be."""

    repository: str
    location: str
    environments: tuple[str, ...]
    parameters: str
    variables: dict[str, str] = field(default_factory=dict)  # that the parameter file reads
    branch: str = "main"
    reviewers: tuple[str, ...] = ()
    subject_prefix: str | None = None
    issuer: str = github.ISSUER
    in_repository: bool = False  # variables go to the repository, as its plan has no environments


def set_up(steps: Steps, wish: Wish) -> None:
    """Make the wish true, a step at a time.

    Raises
    ------
    CommandError
        A step failed. Those before it are done; a repeated run goes on there.
    """
    account = azure_rights.account()
    prefix = wish.subject_prefix or github.subject_prefix(wish.repository)
    azure_rights.register_providers(steps)
    azure_rights.make_group(steps, GROUP, wish.location)
    variables = parameters.with_management(steps, account, wish.parameters, wish.variables)
    for name in wish.environments:
        azure_rights.make_group(steps, _target(wish, name), wish.location)
        identity = azure_rights.make_identity(steps, GROUP, f"id-call-keeper-{name}")
        azure_rights.trust(steps, identity, wish.issuer, f"{prefix}:environment:{name}", account.audience)
        _give_rights(steps, account, wish, name, identity)
        _prepare_github(steps, wish, name, _of_login(account, wish, name, identity) | variables)
    github.switch_on(steps, wish.repository, wish.environments)


def _target(wish: Wish, name: str) -> str:
    """Tell the resource group of an environment. What-if compares with the last one, production."""
    return f"rg-call-keeper-{wish.environments[-1] if name == WHAT_IF else name}"


def _give_rights(steps: Steps, account: Account, wish: Wish, name: str, identity: Identity) -> None:
    scope = account.group(_target(wish, name))
    if name == WHAT_IF:
        azure_rights.let_use(steps, account.subscription, scope, identity, azure_rights.WHAT_IF)
        return
    azure_rights.let_deploy(steps, scope, identity)
    if parameters.makes_locks(wish.parameters):
        azure_rights.let_use(steps, account.subscription, scope, identity, azure_rights.LOCKS)


def _of_login(account: Account, wish: Wish, name: str, identity: Identity) -> dict[str, str]:
    of_login = {
        "AZURE_CLIENT_ID": identity.client,
        "AZURE_TENANT_ID": account.tenant,
        "AZURE_SUBSCRIPTION_ID": account.subscription,
        "AZURE_RESOURCE_GROUP": _target(wish, name),
        "BICEP_PARAMETERS": wish.parameters,
    }
    return of_login if account.cloud == "AzureCloud" else of_login | {"AZURE_CLOUD": account.cloud}


def _prepare_github(steps: Steps, wish: Wish, name: str, variables: dict[str, str]) -> None:
    if wish.in_repository:
        github.set_variables(steps, wish.repository, None, variables)
        return
    reviewers = wish.reviewers if name == "production" else ()
    rules = Environment(name) if name == WHAT_IF else Environment(name, wish.branch, reviewers)
    approved = github.make_environment(steps, wish.repository, rules)
    if name == "production" and not approved:
        steps.note("nobody must approve a deployment to production, unless you name --reviewer or set it at GitHub")
    github.set_variables(steps, wish.repository, name, variables)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 if a step failed."""
    asked_for = _parser().parse_args(argv)
    try:
        wish = _wish(asked_for)
        set_up(Steps(dry_run=asked_for.dry_run), wish)
    except CommandError as error:
        sys.stderr.write(f"failed: {error}\nWhat was done stays. Run the same command again once that is mended.\n")
        return 1
    if asked_for.dry_run:
        sys.stdout.write("dry run: nothing was changed\n")
    else:
        sys.stdout.write(f"ok: the next push to {wish.branch} deploys to {', '.join(_deployed(wish))}\n")
    return 0


def _deployed(wish: Wish) -> list[str]:
    return [name for name in wish.environments if name != WHAT_IF]


def _wish(asked_for: argparse.Namespace) -> Wish:
    wish = Wish(
        repository=asked_for.repository,
        location=asked_for.location,
        environments=tuple(name for name in ENVIRONMENTS if name in asked_for.environments),
        parameters=asked_for.parameters,
        variables={"GRAPH_APP_ID": asked_for.bot_app_id, **dict(asked_for.variable)},
        branch=asked_for.branch,
        reviewers=tuple(asked_for.reviewer),
        subject_prefix=asked_for.subject_prefix,
        issuer=asked_for.issuer,
        in_repository=asked_for.repository_variables,
    )
    parameters.refuse_unread(wish.parameters, wish.variables)
    if missing := sorted(parameters.needed(wish.parameters) - set(wish.variables) - MADE):
        options = " ".join(f"--variable {name}=…" for name in missing)
        raise CommandError(f"{wish.parameters} needs {options}")
    if not _deployed(wish):
        raise CommandError("--environments needs staging or production: what-if alone deploys nothing")
    if wish.in_repository and len(wish.environments) > 1:
        raise CommandError(
            "variables of a repository serve one environment: add --environments production to --repository-variables"
        )
    return wish


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repository", required=True, type=_repository, metavar="OWNER/NAME", help="the GitHub repository")
    add("--location", required=True, help="Azure region of the resource groups; one that has Flex Consumption")
    add("--bot-app-id", required=True, type=guid, help="client id of the bot's app registration")
    add(
        "--environments",
        nargs="+",
        choices=ENVIRONMENTS,
        default=[WHAT_IF, "production"],
        help="of GitHub (default: what-if production)",
    )
    add_parameter_arguments(parser)
    add("--branch", default="main", help="the branch of deploy.yml (default: %(default)s)")
    add("--reviewer", action="append", default=[], metavar="LOGIN", help="must approve production; can be repeated")
    add("--subject-prefix", metavar="TEXT", help="what stands before :environment: in GitHub's OIDC subject")
    add("--issuer", default=github.ISSUER, metavar="URL", help="of GitHub's OIDC tokens (default: %(default)s)")
    add("--repository-variables", action="store_true", help="for a private repository of a plan without environments")
    add("--dry-run", action="store_true", help="read, and print the commands that would change something")
    return parser


def _repository(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise argparse.ArgumentTypeError(f"{text} is not of the form owner/name")
    return text


if __name__ == "__main__":
    sys.exit(main())
