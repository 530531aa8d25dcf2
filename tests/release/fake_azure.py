"""Fakes of Azure: the two sites of an app over HTTP, an `az` that is a script, and a clock that sleeping moves."""

import json
import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import Message
from pathlib import Path

from release.azure import App
from release.waiting import Clock

NAMES = ["health", "keep_alive_timer", "list_calls"]
SETTINGS = ["AzureWebJobsStorage__accountName", "GRAPH_APP_ID"]
KEY = "the-function-key"
NO_TOKEN = json.dumps({"type": "urn:call-keeper:problem:unauthenticated", "status": 401})
AZ = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
asked = " ".join(sys.argv[1:])
with (here / "asked.txt").open("a") as log:
    log.write(asked + "\\n")
if (here / "refusal.txt").exists():
    sys.exit((here / "refusal.txt").read_text())
def next_of(name):
    answers = json.loads((here / name).read_text())
    (here / name).write_text(json.dumps(answers[1:] or answers))
    if answers[0] == "down":
        sys.exit({down!r})
    return answers[0]
if sys.argv[1] == "account":
    answer = next_of("token.json")
elif "/functions?" in asked:
    answer = next_of("functions.json")
elif "post" in sys.argv and "/config/appsettings/list?" in asked:
    assert asked.endswith("--query keys(properties) --output json"), "values would be printed"
    answer = next_of("settings.json")
elif "post" in sys.argv and "/host/default/listkeys?" in asked:
    answer = next_of("keys.json")
else:
    answer = next_of("app.json")
print(json.dumps(answer))
"""
# The output of az if Azure asks a host that restarts (microsoft/vscode-azurefunctions#1104).
DOWN = (
    'ERROR: Bad Request({"Code":"BadRequest","Message":"Encountered an error (ServiceUnavailable) from host runtime."})'
)
ADDRESSES = ["app.azurewebsites.net", "app.scm.azurewebsites.net"]

type Reply = tuple[int, str]


def next_answer[Item](items: list[Item]) -> Item:
    """Return the next item. The last one stays."""
    return items.pop(0) if len(items) > 1 else items[0]


@dataclass
class Site:
    """Both sites of an app. Each list has the answers in order, and its last one repeats.

    Status 0 closes the connection without an answer. The text of a redirect is its address.
    """

    app: App
    health: list[int] = field(default_factory=lambda: [200])
    publishing: list[Reply] = field(default_factory=lambda: [(202, json.dumps("d-1"))])
    builds: list[object] = field(default_factory=lambda: [{"status": 4}])
    runs: list[str | None] = field(default_factory=lambda: [None])  # the build that health reports
    keyed: list[Reply] = field(default_factory=lambda: [(401, NO_TOKEN)])
    asked: list[str] = field(default_factory=list)
    uploaded: list[bytes] = field(default_factory=list)
    authorization: str = ""
    keys: set[str | None] = field(default_factory=set)

    def answer(self, method: str, path: str, body: bytes, headers: Message) -> Reply:
        self.asked.append(f"{method} {path}")
        self.authorization = headers.get("Authorization", self.authorization)
        if method == "POST":
            self.uploaded.append(body)
            return next_answer(self.publishing)
        if path == "/api/health":
            build = next_answer(self.runs)
            return next_answer(self.health), json.dumps({"status": "degraded"} | ({"build": build} if build else {}))
        if path == "/api/termination-codes":
            self.keys.add(headers.get("x-functions-key"))
            return next_answer(self.keyed)
        deployment = next_answer(self.builds)
        return (deployment, "not yet") if isinstance(deployment, int) else (200, json.dumps(deployment))


@dataclass
class SteppedClock:
    """A clock that sleeping moves."""

    seconds: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self.sleep)

    @property
    def passed(self) -> timedelta:
        return timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Az:
    """A fake `az`, first on the PATH. Each list has the answers in order, and the last one repeats. `down`: DOWN."""

    folder: Path

    def finds(self, *functions: list[str] | str) -> None:
        self._write("functions.json", functions)

    def has_settings(self, *settings: list[str] | str) -> None:
        self._write("settings.json", settings)

    def has_keys(self, *keys: list[str] | str) -> None:
        """Set the answers, each a list of one key."""
        self._write("keys.json", keys)

    def knows_the_app(self, *addresses: list[str] | str) -> None:
        self._write("app.json", addresses)

    def gives_a_token(self, *tokens: list[str] | str) -> None:
        """Set the answers, each a list of one token."""
        self._write("token.json", tokens)

    def refuses(self, complaint: str) -> None:
        (self.folder / "refusal.txt").write_text(complaint, encoding="utf-8")

    @property
    def asked(self) -> str:
        return (self.folder / "asked.txt").read_text(encoding="utf-8")

    def install(self) -> str:
        """Create the script, and return a PATH that finds it."""
        script = self.folder / "az"
        script.write_text(AZ.format(python=sys.executable, down=DOWN), encoding="utf-8")
        script.chmod(0o755)
        self.finds(NAMES)
        self.has_settings(SETTINGS)
        self.has_keys([KEY])
        self.knows_the_app(ADDRESSES)
        self.gives_a_token(["a-token"])
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def _write(self, name: str, answers: object) -> None:
        (self.folder / name).write_text(json.dumps(answers), encoding="utf-8")
