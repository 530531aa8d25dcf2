"""Deploys Call Keeper from this machine and proves that it runs; nothing is left to do but to register calls.

    python3 -m infra.deploy --group <resource group> --location <region> --bot-app-id <client id>

It needs Python 3.13, make and `az`, which must be signed in. What is there already stays as it is, so it can be run
again: it then brings changes of the infrastructure and of the code. It does, a step after the other:

1. registers the resource providers that the subscription lacks, and makes the resource group; if the parameter file
   asks for it, also the app registration of management;
2. deploys the infrastructure;
3. lets the bot trust the app's identity, with consent to Graph's permissions (infra.grant_graph_permissions). If the
   account may not do that, it prints the command for an administrator and goes on. If the directory fails for another
   reason, it goes on too, and ends with a failure;
4. builds the package, uploads it and proves it (make package, release.publish).
"""

import argparse
import os
import re
import shlex
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from infra import azure_rights, commands, grant_graph_permissions, parameters
from infra.commands import CommandError, Steps, as_object
from infra.grant_graph_permissions import Outcome
from infra.parameters import add_parameter_arguments

_AGAIN = "The directory did not do it, which may pass. Run this again"


@dataclass(frozen=True)
class Deployed:
    """What a deployment made: the function app, its group, its identity, and where calls and Graph go."""

    group: str
    app: str
    identity: str
    webhook: str
    api: str


def grant(steps: Steps, bot: str, identity: str, further: Sequence[str] = ()) -> Outcome:
    """Let the bot trust the app's identity, and manage its own calls. A refusal is told, with the command to run.

    Parameters
    ----------
    steps
        Tells what is missing, and the command, if the directory refuses.
    bot
        Client id of the bot's app registration.
    identity
        Object id of the app's identity.
    further
        More options of infra.grant_graph_permissions.

    Returns
    -------
    Outcome
        What was refused, and why.
    """
    options = ["--bot-app-id", bot, "--identity-principal-id", identity, "--grant-to", "bot", *further]
    outcome = grant_graph_permissions.attempt(options)
    if not outcome.is_done:
        kept = "calls are kept alive, but the bot may not register them yet: its app role is missing"
        who = "An administrator of the bot's tenant must run this, then all is done" if outcome.is_forbidden else _AGAIN
        steps.note(f"{kept if outcome.calls_are_kept else 'calls are not kept alive yet'}. {who}:")
        steps.note(f"  python3 -m infra.grant_graph_permissions {shlex.join(options)}")
    return outcome


def publish(group: str, app: str) -> None:
    """Build the package, upload it and prove that it runs.

    Raises
    ------
    CommandError
        A step failed. What it told is on the terminal.
    """
    where = ("--app", app, "--group", group)
    commands.shown("make", "package")
    commands.shown(sys.executable, "-m", "release.publish", "push", *where)
    commands.shown(sys.executable, "-m", "release.publish", "prove", *where)


def infrastructure(steps: Steps, group: str, file: str, variables: dict[str, str]) -> Deployed:
    """Deploy the infrastructure to a group, and tell what was made.

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
    told = commands.asked(*command, "--parameters", file, "--query", query, "--output", "json", env=env)
    outputs = {name: str(value) for name, value in as_object(told).items()}
    if set(outputs) != {"app", "identity", "webhook", "api"}:
        raise CommandError("the deployment told no outputs. Run this again")
    sys.stdout.write(f"done:  infrastructure of {outputs['app']}\n")
    return Deployed(group, **outputs)


def deploy(steps: Steps, asked: argparse.Namespace) -> None:
    """Do all of it.

    Raises
    ------
    CommandError
        A step failed. Those before it are done; a repeated run goes on there.
    """
    variables = _variables(asked)
    account = azure_rights.account()
    azure_rights.register_providers(steps)
    azure_rights.make_group(steps, asked.group, asked.location)
    variables = parameters.with_management(steps, account, asked.parameters, variables)
    made = infrastructure(steps, asked.group, asked.parameters, variables)
    granted = grant(steps, asked.bot_app_id, made.identity, _further(asked, account.cloud, variables))
    publish(made.group, made.app)
    sys.stdout.write(f"app:      {made.app}\nidentity: {made.identity}\n")
    sys.stdout.write(f"webhook:  {made.webhook}  (the bot's callbackUri)\nAPI:      {made.api}\n")
    if granted.is_forbidden:
        steps.note("the grant for Graph is missing: its command is above")
    elif not granted.is_done:
        raise CommandError("the app is deployed and proved, but the grant for Graph is not complete")


def _variables(asked: argparse.Namespace) -> dict[str, str]:
    """Tell what the parameter file reads: from the options, and else from the environment, as az does."""
    given = dict(asked.variable)
    parameters.refuse_unread(asked.parameters, given)
    names = parameters.read(asked.parameters)
    return (
        {name: os.environ[name] for name in names if os.environ.get(name)} | given | {"GRAPH_APP_ID": asked.bot_app_id}
    )


def _further(asked: argparse.Namespace, cloud: str, variables: dict[str, str]) -> list[str]:
    """Tell the options of the grant that follow from the parameters and the cloud."""
    further = ["--media"] if asked.media else []
    if management := variables.get("MANAGEMENT_APP_ID"):
        further += ["--management-app-id", management]
    return further + graph_of(cloud, parameters.text(asked.parameters))


def graph_of(cloud: str, text: str = "") -> list[str]:
    """Tell the grant which Graph it asks, if it is not the global one.

    Parameters
    ----------
    cloud
        Name of Azure's cloud in az.
    text
        The parameter file, which may name Graph's cloud; main.bicep takes usgov-l4 if it does not.
    """
    if cloud == "AzureCloud":
        return []
    told = re.search(r"^param graphCloud = '(.+)'$", text, re.MULTILINE)
    return ["--cloud", told[1] if told else "usgov-l4"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 if a step failed."""
    asked = _parser().parse_args(argv)
    try:
        deploy(Steps(), asked)
    except CommandError as error:
        sys.stderr.write(f"failed: {error}\nWhat was done stays. Run the same command again once that is mended.\n")
        return 1
    sys.stdout.write("ok: it is deployed and proved\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--group", required=True, help="resource group; made if it does not exist")
    add("--location", required=True, help="Azure region of the group; one that has Flex Consumption")
    add("--bot-app-id", required=True, type=guid, help="client id of the bot's app registration")
    add_parameter_arguments(parser)
    add("--media", action="store_true", help="the bot hosts media: Calls.AccessMedia.All too")
    return parser


def guid(text: str) -> str:
    """Read an argument that is a GUID."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no GUID") from None


if __name__ == "__main__":
    sys.exit(main())
