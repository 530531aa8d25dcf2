"""A fake `az` and `gh` with the few objects that the set-up of the pipeline reads and creates."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.infra.fake_directory import IDENTITY

type Json = dict[str, object]
type Options = dict[str, str]
SUBSCRIPTION = "44444444-0000-4000-8000-000000000001"
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
REPOSITORY = "Someone/call-keeper"
NEW: Json = {"use_default": True, "use_immutable_subject": False, "sub_claim_prefix": "repo:Someone@77/call-keeper@88"}
OLD: Json = {"use_default": True, "sub_claim_prefix": "repo:Someone/call-keeper"}
WEBHOOK = "https://app/api/notifications"
_PLACE = f"repos/{REPOSITORY}/environments"
_ROOT = Path(__file__).parents[2]
_READING = (" show", " list", " exists", "gh api repos", "gh api users")


class Failed(Exception):
    """The command ends with exit code 1 and this message."""


@dataclass
class Clouds:
    """The objects in Azure and at GitHub.

    `calls` are the commands that were run. `broken` maps a part of a command to the message with which it fails.
    """

    cloud: str = "AzureCloud"
    subscription: str = SUBSCRIPTION
    providers: list[str] = field(default_factory=lambda: ["Microsoft.Authorization", "microsoft.insights"])
    groups: dict[str, str] = field(default_factory=dict)
    identities: dict[str, Json] = field(default_factory=dict)
    credentials: dict[str, list[Json]] = field(default_factory=dict)
    assignments: list[Json] = field(default_factory=list)
    roles: list[Json] = field(default_factory=list)
    apps: list[Json] = field(default_factory=list)
    oidc: Json | None = field(default_factory=lambda: dict(NEW))
    users: dict[str, int] = field(default_factory=lambda: {"approver": 99})
    environments: dict[str, Json] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # by environment; those of the repository under ""
    broken: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    deployed: list[str] = field(default_factory=list)  # parameter files
    environments_given: list[dict[str, str]] = field(default_factory=list)  # of the commands that were given one

    @property
    def changes(self) -> list[str]:
        return [call for call in self.calls if not any(words in call for words in _READING)]

    def run(
        self, command: Sequence[str], text: str | None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command as the programs would."""
        self.calls.append(" ".join(command))
        if env:
            self.environments_given.append(dict(env))
        try:
            printed = self._answer(list(command), text)
        except Failed as error:
            return subprocess.CompletedProcess(command, 1, "", f"ERROR: {error}\n")
        return subprocess.CompletedProcess(command, 0, printed if isinstance(printed, str) else json.dumps(printed), "")

    def _answer(self, command: list[str], text: str | None) -> object:
        for part, message in self.broken.items():
            if part in " ".join(command):
                raise Failed(message)
        if command[0] == "gh":
            return self._gh(command[1:], text)
        command = [word for word in command if word != "--wait"]  # the only option without a value
        at = next(place for place, word in enumerate(command) if word.startswith("--"))
        verb, given = " ".join(command[1:at]), dict(zip(command[at::2], command[at + 1 :: 2], strict=True))
        handler: Callable[[Options], object] | None = getattr(
            self, f"_{verb.replace(' ', '_').replace('-', '_')}", None
        )
        if handler is None:
            raise Failed(f"this az does not know '{verb}'")
        return handler(given)

    def _account_show(self, _: Options) -> object:
        return {"id": self.subscription, "tenantId": TENANT, "environmentName": self.cloud}

    def _account_get_access_token(self, _: Options) -> object:
        return {"accessToken": "of-az"}

    def _deployment_group_create(self, given: Options) -> object:
        if given["--resource-group"] not in self.groups:
            raise Failed("(ResourceGroupNotFound) Resource group could not be found.")
        self.deployed.append(given["--parameters"])
        return {"app": "func-call-keeper", "identity": IDENTITY, "webhook": WEBHOOK, "api": "https://app/api"}

    def _provider_list(self, _: Options) -> object:
        return self.providers

    def _provider_register(self, given: Options) -> str:
        self.providers.append(given["--namespace"])
        return ""

    def _group_exists(self, given: Options) -> str:
        return "true\n" if given["--name"] in self.groups else "false\n"

    def _group_create(self, given: Options) -> object:
        self.groups[given["--name"]] = given["--location"]
        return {"name": given["--name"]}

    def _identity_show(self, given: Options) -> object:
        if given["--name"] not in self.identities:
            raise Failed(f"(ResourceNotFound) The Resource '{given['--name']}' was not found.")
        return self.identities[given["--name"]]

    def _identity_create(self, given: Options) -> object:
        name = given["--name"]
        if given["--resource-group"] not in self.groups:
            raise Failed("(ResourceGroupNotFound) Resource group could not be found.")
        self.identities[name] = {"clientId": f"client-{name}", "principalId": f"principal-{name}"}
        return self.identities[name]

    def _identity_federated_credential_list(self, given: Options) -> object:
        return self.credentials.get(given["--identity-name"], [])

    def _identity_federated_credential_create(self, given: Options) -> object:
        there = self.credentials.setdefault(given["--identity-name"], [])
        if any(item["name"] == given["--name"] for item in there):
            raise Failed("(Conflict) A federated credential of this name exists already.")
        return self._write_credential(there, given)

    def _identity_federated_credential_update(self, given: Options) -> object:
        there = self.credentials[given["--identity-name"]]
        there[:] = [item for item in there if item["name"] != given["--name"]]
        return self._write_credential(there, given)

    @staticmethod
    def _write_credential(there: list[Json], given: Options) -> Json:
        made: Json = {name: given[f"--{name}"] for name in ("name", "issuer", "subject")}
        there.append(made | {"audiences": [given["--audiences"]]})
        return there[-1]

    def _role_assignment_list(self, given: Options) -> object:
        return [item for item in self.assignments if item["scope"] == given["--scope"]]

    def _role_assignment_delete(self, given: Options) -> str:
        self.assignments[:] = [item for item in self.assignments if item["id"] != given["--ids"]]
        return ""

    def _role_assignment_create(self, given: Options) -> object:
        assignment: Json = {
            "id": f"assignment-{len(self.assignments)}",
            "scope": given["--scope"],
            "principalId": given["--assignee-object-id"],
            "roleDefinitionId": f"/providers/roleDefinitions/{given['--role']}",
            "condition": given.get("--condition"),
        }
        same = ("scope", "principalId", "roleDefinitionId")
        if any(all(item[key] == assignment[key] for key in same) for item in self.assignments):
            raise Failed("(RoleAssignmentExists) The role assignment already exists.")
        self.assignments.append(assignment)
        return assignment

    def _role_definition_list(self, given: Options) -> object:
        """Return only the roles of the subscription, although a name must be unique in the whole tenant."""
        scopes = [f"/subscriptions/{self.subscription}"]
        return [
            role for role in self.roles if role["roleName"] == given["--name"] and role["AssignableScopes"] == scopes
        ]

    def _role_definition_create(self, given: Options) -> object:
        definition = json.loads(given["--role-definition"])
        if any(role["roleName"] == definition["Name"] for role in self.roles):
            raise Failed("(RoleDefinitionWithSameNameExists) A custom role with the same name already exists.")
        self.roles.append({"name": f"role-{len(self.roles)}", "roleName": definition["Name"], **definition})
        return self.roles[-1]

    def _ad_app_list(self, given: Options) -> object:
        return [app for app in self.apps if str(app["displayName"]).startswith(given["--display-name"])]

    def _ad_app_create(self, given: Options) -> object:
        self.apps.append({"appId": f"app-{len(self.apps)}", "displayName": given["--display-name"]})
        return self.apps[-1]

    def _gh(self, words: list[str], text: str | None) -> object:
        match words:
            case ["variable", "list", *options]:
                return [{"name": name, "value": value} for name, value in self._of(options).items()]
            case ["variable", "set", name, *options]:
                self._of(options)[name] = options[options.index("--body") + 1]
                return ""
            case ["api", "--method", _, path, "--input", "-"]:
                return self._write(path.partition("/environments/")[2], json.loads(text or ""))
            case ["api", path]:
                return self._read(path)
        raise Failed(f"this gh does not know '{' '.join(words)}'")

    def _of(self, options: list[str]) -> dict[str, str]:
        return self.variables.setdefault(options[options.index("--env") + 1] if "--env" in options else "", {})

    def _write(self, environment: str, body: Json) -> object:
        name, _, policies = environment.partition("/")
        if policies:
            self.environments[name]["branches"] = body["name"]
        else:
            branches = self.environments.get(name, {}).get("branches")
            self.environments[name] = body | ({"branches": branches} if branches else {})
        return body

    def _read(self, path: str) -> object:
        owner: Json = {"login": "Someone", "id": 77}
        there: dict[str, object] = {
            f"repos/{REPOSITORY}": {"full_name": REPOSITORY, "name": "call-keeper", "id": 88, "owner": owner},
            f"repos/{REPOSITORY}/actions/oidc/customization/sub": self.oidc,
            **{f"users/{login}": {"id": number} for login, number in self.users.items()},
            **{f"{_PLACE}/{name}": _shown(rules) for name, rules in self.environments.items()},
            **{f"{_PLACE}/{name}/deployment-branch-policies": _listed(r) for name, r in self.environments.items()},
        }
        if there.get(path) is None:
            raise Failed("gh: Not Found (HTTP 404)")
        return there[path]


def _shown(rules: Json) -> Json:
    """Return an environment in the form that GitHub returns, which differs from the form that it accepts."""
    shown: list[Json] = [{"type": "branch_policy"}] if rules.get("deployment_branch_policy") else []
    shown += [{"type": "required_reviewers", "reviewers": rules["reviewers"]}] if rules.get("reviewers") else []
    shown += [{"type": "wait_timer", "wait_timer": rules["wait_timer"]}] if rules.get("wait_timer") else []
    return {"protection_rules": shown, "deployment_branch_policy": rules.get("deployment_branch_policy")}


def _listed(rules: Json) -> Json:
    names = [rules["branches"]] if "branches" in rules else []
    return {"total_count": len(names), "branch_policies": [{"id": 1, "name": name} for name in names]}


def install(clouds: Clouds, folder: Path) -> None:
    """Create programs `az` and `gh` in a folder. Each runs one command on the state in a file beside it."""
    (folder / "state").write_bytes(pickle.dumps(clouds))
    for name in ("az", "gh"):
        program = folder / name
        program.write_text(
            f"#!{sys.executable} -S\nimport sys\nsys.path.insert(0, {str(_ROOT)!r})\n"
            f"from tests.infra.fake_clouds import main\nmain({str(folder)!r}, {name!r})\n"
        )
        program.chmod(0o755)


def installed(folder: Path) -> Clouds:
    """Return the state of the clouds after the programs of a folder have run."""
    found = pickle.loads((folder / "state").read_bytes())
    assert isinstance(found, Clouds)
    return found


def main(folder: str, name: str) -> None:
    """Run the command of one program's process."""
    clouds = installed(Path(folder))
    done = clouds.run([name, *sys.argv[1:]], None if sys.stdin.isatty() else sys.stdin.read())
    (Path(folder) / "state").write_bytes(pickle.dumps(clouds))
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)
