"""The hooks of azure.yaml, which azd runs before and after its own steps: `python3 -m infra.azd <hook>`.

azd passes the values of its environment (`azd env get-values`) as environment variables.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence

from infra import azure_rights
from infra.commands import CommandError, Steps
from infra.deploy import cloud_options, grant_permissions, publish_package

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def preprovision(steps: Steps) -> None:
    """Fail early instead of after minutes: if no bot is set, or `az` is signed in to another subscription."""
    bot = os.environ.get("GRAPH_APP_ID", "")
    if not _GUID.fullmatch(bot):
        raise CommandError('GRAPH_APP_ID is not set: azd env set GRAPH_APP_ID "<client id of the bot\'s registration>"')
    account = azure_rights.read_account()
    wanted = os.environ.get("AZURE_SUBSCRIPTION_ID") or account.subscription
    if account.subscription != wanted:
        raise CommandError(
            f"azd deploys to the subscription {wanted}, but az is signed in to {account.subscription}: "
            f"az account set --subscription {wanted}"
        )
    azure_rights.register_providers(steps)


def postprovision(steps: Steps) -> None:
    """Let the bot trust the app's identity. If the directory refuses that, print it and let azd go on."""
    options = cloud_options(azure_rights.read_account().cloud)
    grant_permissions(steps, _required("GRAPH_APP_ID"), _required("IDENTITY_PRINCIPAL_ID"), options)


def postdeploy(steps: Steps) -> None:
    """Build the package, upload it and prove it. azd itself uploads nothing: azure.yaml names no service."""
    publish_package(_required("AZURE_RESOURCE_GROUP"), _required("FUNCTION_APP_NAME"))
    app, group = _required("FUNCTION_APP_NAME"), _required("AZURE_RESOURCE_GROUP")
    steps.note(f"app {app}, group {group}, API {_required('API_BASE_URL')}")
    steps.note(f"webhook, the bot's callbackUri: {_required('WEBHOOK_URL')}")


HOOKS: dict[str, Callable[[Steps], None]] = {
    "preprovision": preprovision,
    "postprovision": postprovision,
    "postdeploy": postdeploy,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a hook; return 1 if it failed, which ends azd's command."""
    parser = argparse.ArgumentParser(prog="python3 -m infra.azd", description=__doc__)
    parser.add_argument("hook", choices=sorted(HOOKS))
    try:
        HOOKS[parser.parse_args(argv).hook](Steps())
    except CommandError as error:
        sys.stderr.write(f"failed: {error}\n")
        return 1
    return 0


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise CommandError(f"azd has no {name}: run azd provision first")
    return value


if __name__ == "__main__":
    sys.exit(main())
