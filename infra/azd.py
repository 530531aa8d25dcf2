"""What azd runs before and after its own steps: the hooks of azure.yaml, `python3 -m infra.azd <hook>`.

azd hands over the environment that it keeps (`azd env get-values`) as environment variables.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence

from infra import azure_rights
from infra.commands import CommandError, Steps
from infra.deploy import grant, graph_of, publish

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def preprovision(steps: Steps) -> None:
    """Refuse early what would fail after minutes: no bot, or an `az` that is signed in elsewhere."""
    bot = os.environ.get("GRAPH_APP_ID", "")
    if not _GUID.fullmatch(bot):
        raise CommandError('GRAPH_APP_ID is not set: azd env set GRAPH_APP_ID "<client id of the bot\'s registration>"')
    account = azure_rights.account()
    wanted = os.environ.get("AZURE_SUBSCRIPTION_ID") or account.subscription
    if account.subscription != wanted:
        raise CommandError(
            f"azd deploys to the subscription {wanted}, but az is signed in to {account.subscription}: "
            f"az account set --subscription {wanted}"
        )
    azure_rights.register_providers(steps)


def postprovision(steps: Steps) -> None:
    """Let the bot trust the app's identity. If the directory refuses that, it is told and azd goes on."""
    further = graph_of(azure_rights.account().cloud)
    grant(steps, _needed("GRAPH_APP_ID"), _needed("IDENTITY_PRINCIPAL_ID"), further)


def postdeploy(steps: Steps) -> None:
    """Build the package, upload it and prove it. azd itself uploads nothing: azure.yaml names no service."""
    publish(_needed("AZURE_RESOURCE_GROUP"), _needed("FUNCTION_APP_NAME"))
    steps.note(
        f"app {_needed('FUNCTION_APP_NAME')}, group {_needed('AZURE_RESOURCE_GROUP')}, API {_needed('API_BASE_URL')}"
    )
    steps.note(f"webhook, the bot's callbackUri: {_needed('WEBHOOK_URL')}")


HOOKS: dict[str, Callable[[Steps], None]] = {
    "preprovision": preprovision,
    "postprovision": postprovision,
    "postdeploy": postdeploy,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a hook; 1 if it failed, which ends azd's command."""
    parser = argparse.ArgumentParser(prog="python3 -m infra.azd", description=__doc__)
    parser.add_argument("hook", choices=sorted(HOOKS))
    try:
        HOOKS[parser.parse_args(argv).hook](Steps())
    except CommandError as error:
        sys.stderr.write(f"failed: {error}\n")
        return 1
    return 0


def _needed(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise CommandError(f"azd has no {name}: azd provision makes it")
    return value


if __name__ == "__main__":
    sys.exit(main())
