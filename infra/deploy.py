"""Deploys Call Keeper from this machine and proves that it runs. After it, the bot can register calls.

    python3 -m infra.deploy --group <resource group> --location <region> --bot-app-id <client id>

It needs Python 3.13, make and `az`, which must be signed in. Existing resources stay as they are. So it can be run
again, and then deploys changes of the infrastructure and of the code. Its steps:

1. register the resource providers that the subscription lacks, and create the resource group; if the parameter file
   asks for it, also create the app registration of management;
2. deploy the infrastructure;
3. let the bot trust the app's identity, and consent to Graph's permissions (infra.grant_graph_permissions). If the
   account may not do that, print the command for an administrator and go on. If the directory fails for another
   reason, go on too, and end with a failure;
4. build the package, upload it and prove it (make package, release.publish).
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from infra import azure_rights, commands, grant_graph_permissions, parameters
from infra.arguments import guid
from infra.commands import CommandError, Steps, as_object
from infra.grant_graph_permissions import Outcome
from infra.parameters import add_parameter_arguments

_REPEAT = "The directory did not do it, but may do it later. Run this again"


@dataclass(frozen=True)
class Deployed:
    """The results of a deployment.

    `identity` is the object id of the app's identity. `webhook` and `api` are the addresses for Graph and for bots.
    """

    group: str
    app: str
    identity: str
    webhook: str
    api: str


def grant_permissions(steps: Steps, bot: str, identity: str, options: Sequence[str] = ()) -> Outcome:
    """Let the bot trust the app's identity, and manage its own calls. After a refusal, print the remaining command.

    Parameters
    ----------
    steps
        Prints what is missing, and the command, if the directory refuses.
    bot
        Client id of the bot's app registration.
    identity
        Object id of the app's identity.
    options
        More options of infra.grant_graph_permissions.

    Returns
    -------
    Outcome
        The refusal, if there was one.
    """
    arguments = ["--bot-app-id", bot, "--identity-principal-id", identity, "--grant-to", "bot", *options]
    outcome = grant_graph_permissions.grant(arguments)
    if not outcome.is_done:
        kept = "calls are kept alive, but the bot may not register them yet: its app role is missing"
        missing = kept if outcome.calls_are_kept else "calls are not kept alive yet"
        by_administrator = "An administrator of the bot's tenant must run this to complete the deployment"
        steps.note(f"{missing}. {by_administrator if outcome.is_forbidden else _REPEAT}:")
        steps.note(f"  python3 -m infra.grant_graph_permissions {shlex.join(arguments)}")
    return outcome


def publish_package(group: str, app: str) -> None:
    """Build the package, upload it and prove that it runs.

    Raises
    ------
    CommandError
        A step failed. Its output is on the terminal.
    """
    options = ("--app", app, "--group", group)
    commands.run_visibly("make", "package")
    commands.run_visibly(sys.executable, "-m", "release.publish", "push", *options)
    commands.run_visibly(sys.executable, "-m", "release.publish", "prove", *options)


def deploy_infrastructure(steps: Steps, group: str, file: str, variables: dict[str, str]) -> Deployed:
    """Deploy the infrastructure to a group, and return its outputs.

    Parameters
    ----------
    steps
        Prints the progress.
    group
        Name of the resource group.
    file
        Path of the parameter file.
    variables
        The environment variables that the file reads.

    Raises
    ------
    CommandError
        Azure refused it.
    """
    steps.note(f"the infrastructure of {file} takes some minutes")
    command = ("az", "deployment", "group", "create", "--name", "call-keeper", "--resource-group", group)
    query = "properties.outputs.{app:functionAppName.value,identity:identityPrincipalId.value"
    query += ",webhook:webhookUrl.value,api:apiBaseUrl.value}"
    env = {**os.environ, **variables}
    printed = commands.run_json(*command, "--parameters", file, "--query", query, "--output", "json", env=env)
    outputs = {name: str(value) for name, value in as_object(printed).items()}
    if set(outputs) != {"app", "identity", "webhook", "api"}:
        raise CommandError("the deployment printed no outputs. Run this again")
    sys.stdout.write(f"done:  infrastructure of {outputs['app']}\n")
    return Deployed(group, **outputs)


def deploy(steps: Steps, args: argparse.Namespace) -> None:
    """Run all steps.

    Raises
    ------
    CommandError
        A step failed. The steps before it are done, and a repeated run continues there.
    """
    variables = _variables(args)
    account = azure_rights.read_account()
    azure_rights.register_providers(steps)
    azure_rights.make_group(steps, args.group, args.location)
    variables = parameters.add_management_registration(steps, account, args.parameters, variables)
    deployed = deploy_infrastructure(steps, args.group, args.parameters, variables)
    outcome = grant_permissions(
        steps, args.bot_app_id, deployed.identity, _grant_options(args, account.cloud, variables)
    )
    publish_package(deployed.group, deployed.app)
    sys.stdout.write(f"app:      {deployed.app}\nidentity: {deployed.identity}\n")
    sys.stdout.write(f"webhook:  {deployed.webhook}  (the bot's callbackUri)\nAPI:      {deployed.api}\n")
    if outcome.is_forbidden:
        steps.note("the grant for Graph is missing: run the command above")
    elif not outcome.is_done:
        raise CommandError("the app is deployed and proved, but the grant for Graph is not complete")


def _variables(args: argparse.Namespace) -> dict[str, str]:
    """Return the variables that the parameter file reads, from the options or else the environment, as az does."""
    given = dict(args.variable)
    parameters.check_variables(args.parameters, given)
    names = parameters.variables_read(args.parameters)
    return (
        {name: os.environ[name] for name in names if os.environ.get(name)} | given | {"GRAPH_APP_ID": args.bot_app_id}
    )


def _grant_options(args: argparse.Namespace, cloud: str, variables: dict[str, str]) -> list[str]:
    """Return the options of the grant that follow from the arguments, the parameters and the cloud."""
    options = ["--media"] if args.media else []
    if management := variables.get("MANAGEMENT_APP_ID"):
        options += ["--management-app-id", management]
    return options + cloud_options(cloud, parameters.read_file(args.parameters))


def cloud_options(cloud: str, text: str = "") -> list[str]:
    """Return the option of the grant that chooses Graph's cloud; none for the global one.

    Parameters
    ----------
    cloud
        Name of Azure's cloud in az.
    text
        Content of the parameter file, which may name Graph's cloud. If it does not, main.bicep chooses usgov-l4.
    """
    if cloud == "AzureCloud":
        return []
    named = re.search(r"^param graphCloud = '(.+)'$", text, re.MULTILINE)
    return ["--cloud", named[1] if named else "usgov-l4"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a step failed."""
    args = _parser().parse_args(argv)
    try:
        deploy(Steps(), args)
    except CommandError as error:
        sys.stderr.write(f"failed: {error}\n{commands.RUN_AGAIN}\n")
        return 1
    sys.stdout.write("ok: it is deployed and proved\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--group", required=True, help="resource group; created if it does not exist")
    add("--location", required=True, help="Azure region of the group; it must have Flex Consumption")
    add("--bot-app-id", required=True, type=guid, help="client id of the bot's app registration")
    add_parameter_arguments(parser)
    add("--media", action="store_true", help="also grant Calls.AccessMedia.All, because the bot hosts media")
    return parser


if __name__ == "__main__":
    sys.exit(main())
