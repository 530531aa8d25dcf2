"""Prepares Azure and GitHub for `.github/workflows/deploy.yml`, so that the next push to `main` deploys.

    python3 -m infra.set_up_pipeline --repository <owner>/<name> --location <region> --bot-app-id <id> [--dry-run]

It needs Python 3.10 or newer, `az` and `gh`, both signed in. Existing objects stay as they are, so it can be run again.
With `--parameters infra/params/production.bicepparam` it also creates what real calls need: the app registration of
management, and the right to write locks. docs/deploy-github.md says which rights the two accounts need.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra import azure_rights, github, parameters
from infra.arguments import guid
from infra.azure_rights import Account, Identity
from infra.commands import RUN_AGAIN, CommandError, Steps
from infra.github import Environment
from infra.parameters import add_parameter_arguments

GROUP = "rg-call-keeper-pipeline"  # of the identities; deleting a deployment leaves it
COMPUTED_VARIABLES = {"MANAGEMENT_APP_ID", "MANAGEMENT_TENANT_ID"}  # the command finds or creates their values
WHAT_IF = "what-if"
ENVIRONMENTS = (WHAT_IF, "staging", "production")  # those of deploy.yml


@dataclass(frozen=True)
class PipelineConfig:
    """The pipeline to set up."""

    repository: str
    location: str
    environments: tuple[str, ...]
    parameters: str
    variables: dict[str, str] = field(default_factory=dict)  # those that the parameter file reads
    branch: str = "main"
    reviewers: tuple[str, ...] = ()
    subject_prefix: str | None = None
    issuer: str = github.ISSUER
    in_repository: bool = False  # True: variables of the repository, because its plan has no environments


def set_up(steps: Steps, config: PipelineConfig) -> None:
    """Create everything that the configuration names and that does not exist, step by step.

    Raises
    ------
    CommandError
        A step failed. The steps before it are done, and a repeated run continues there.
    """
    account = azure_rights.read_account()
    prefix = config.subject_prefix or github.subject_prefix(config.repository)
    azure_rights.register_providers(steps)
    azure_rights.make_group(steps, GROUP, config.location)
    variables = parameters.add_management_registration(steps, account, config.parameters, config.variables)
    for name in config.environments:
        azure_rights.make_group(steps, _resource_group(config, name), config.location)
        identity = azure_rights.make_identity(steps, GROUP, f"id-call-keeper-{name}")
        azure_rights.trust_github(steps, identity, config.issuer, f"{prefix}:environment:{name}", account.audience)
        _grant_rights(steps, account, config, name, identity)
        _prepare_github(steps, config, name, _login_variables(account, config, name, identity) | variables)
    github.enable_deployment(steps, config.repository, config.environments)


def _resource_group(config: PipelineConfig, name: str) -> str:
    """Return the resource group of an environment. What-if compares with the group of the last one, production."""
    return f"rg-call-keeper-{config.environments[-1] if name == WHAT_IF else name}"


def _grant_rights(steps: Steps, account: Account, config: PipelineConfig, name: str, identity: Identity) -> None:
    scope = account.group(_resource_group(config, name))
    if name == WHAT_IF:
        azure_rights.grant_custom_role(steps, account.subscription, scope, identity, azure_rights.WHAT_IF)
        return
    azure_rights.grant_deployment(steps, scope, identity)
    if parameters.makes_locks(config.parameters):
        azure_rights.grant_custom_role(steps, account.subscription, scope, identity, azure_rights.LOCKS)


def _login_variables(account: Account, config: PipelineConfig, name: str, identity: Identity) -> dict[str, str]:
    variables = {
        "AZURE_CLIENT_ID": identity.client,
        "AZURE_TENANT_ID": account.tenant,
        "AZURE_SUBSCRIPTION_ID": account.subscription,
        "AZURE_RESOURCE_GROUP": _resource_group(config, name),
        "BICEP_PARAMETERS": config.parameters,
    }
    return variables if account.cloud == "AzureCloud" else variables | {"AZURE_CLOUD": account.cloud}


def _prepare_github(steps: Steps, config: PipelineConfig, name: str, variables: dict[str, str]) -> None:
    if config.in_repository:
        github.set_variables(steps, config.repository, None, variables)
        return
    reviewers = config.reviewers if name == "production" else ()
    rules = Environment(name) if name == WHAT_IF else Environment(name, config.branch, reviewers)
    approved = github.make_environment(steps, config.repository, rules)
    if name == "production" and not approved:
        steps.note("nobody must approve a deployment to production: use --reviewer, or set reviewers at GitHub")
    github.set_variables(steps, config.repository, name, variables)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a step failed."""
    args = _parser().parse_args(argv)
    try:
        config = _config(args)
        set_up(Steps(dry_run=args.dry_run), config)
    except CommandError as error:
        sys.stderr.write(f"failed: {error}\n{RUN_AGAIN}\n")
        return 1
    if args.dry_run:
        sys.stdout.write("dry run: nothing was changed\n")
    else:
        sys.stdout.write(f"ok: the next push to {config.branch} deploys to {', '.join(_deployed(config))}\n")
    return 0


def _deployed(config: PipelineConfig) -> list[str]:
    return [name for name in config.environments if name != WHAT_IF]


def _config(args: argparse.Namespace) -> PipelineConfig:
    config = PipelineConfig(
        repository=args.repository,
        location=args.location,
        environments=tuple(name for name in ENVIRONMENTS if name in args.environments),
        parameters=args.parameters,
        variables={"GRAPH_APP_ID": args.bot_app_id, **dict(args.variable)},
        branch=args.branch,
        reviewers=tuple(args.reviewer),
        subject_prefix=args.subject_prefix,
        issuer=args.issuer,
        in_repository=args.repository_variables,
    )
    parameters.check_variables(config.parameters, config.variables)
    if missing := sorted(parameters.variables_needed(config.parameters) - set(config.variables) - COMPUTED_VARIABLES):
        options = " ".join(f"--variable {name}=…" for name in missing)
        raise CommandError(f"{config.parameters} needs {options}")
    if not _deployed(config):
        raise CommandError("--environments needs staging or production: what-if alone deploys nothing")
    if config.in_repository and len(config.environments) > 1:
        raise CommandError(
            "variables of a repository serve one environment: add --environments production to --repository-variables"
        )
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repository", required=True, type=_repository, metavar="OWNER/NAME", help="the GitHub repository")
    add("--location", required=True, help="Azure region of the resource groups; it must have Flex Consumption")
    add("--bot-app-id", required=True, type=guid, help="client id of the bot's app registration")
    add(
        "--environments",
        nargs="+",
        choices=ENVIRONMENTS,
        default=[WHAT_IF, "production"],
        help="environments of GitHub (default: what-if production)",
    )
    add_parameter_arguments(parser)
    add("--branch", default="main", help="the branch that deploy.yml deploys (default: %(default)s)")
    add(
        "--reviewer",
        action="append",
        default=[],
        metavar="LOGIN",
        help="a user who must approve production; can be repeated",
    )
    add("--subject-prefix", metavar="TEXT", help="the part of GitHub's OIDC subject before :environment:")
    add("--issuer", default=github.ISSUER, metavar="URL", help="issuer of GitHub's OIDC tokens (default: %(default)s)")
    add(
        "--repository-variables",
        action="store_true",
        help="set variables of the repository, because its plan has no environments",
    )
    add("--dry-run", action="store_true", help="read, and print the commands that would change something")
    return parser


def _repository(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise argparse.ArgumentTypeError(f"{text} is not of the form owner/name")
    return text


if __name__ == "__main__":
    sys.exit(main())
