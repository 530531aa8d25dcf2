"""The example bots as processes."""

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from local.stack.azurite import find_node
from local.stack.processes import Child, Children
from local.stack.stack import ROOT

BOTS = ROOT / "examples" / "bots"
LANGUAGES = ("python", "typescript")
SECRET = "a-secret-of-the-bot"
READY = r"(?i)running on"


@dataclass
class Programs:
    """The commands that start a bot. The TypeScript one is compiled, with all checks, when it is first needed."""

    folder: Path

    def command(self, language: str) -> list[str]:
        """Return the command that starts a bot."""
        if language == "python":
            return [sys.executable, str(BOTS / "python" / "bot.py")]
        return [find_node(), str(self._compiled / "bot.js")]

    @cached_property
    def _compiled(self) -> Path:
        target = self.folder / "typescript"
        compile_typescript("--outDir", str(target))
        (target / "package.json").write_text(json.dumps({"type": "module"}), encoding="utf-8")
        (target / "node_modules").symlink_to(ROOT / "node_modules")
        return target


def compile_typescript(*arguments: str) -> None:
    """Run the TypeScript compiler on the bot. A type that does not fit fails the test with the compiler's words."""
    tsc = ROOT / "node_modules" / "typescript" / "bin" / "tsc"
    command = [find_node(), str(tsc), "-p", str(BOTS / "typescript"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@dataclass
class Bot:
    """One bot, which can be ended and started again on the same port.

    Attributes
    ----------
    programs, children
        Start its process.
    language
        One of LANGUAGES.
    settings
        Its environment variables, besides the port.
    """

    programs: Programs
    children: Children
    language: str
    settings: Mapping[str, str]
    port: int = field(default_factory=lambda: free_port())  # noqa: PLW0108 - it is defined below
    child: Child | None = None

    @property
    def address(self) -> str:
        """The URL of the bot."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def notifications(self) -> str:
        """The URL that takes notifications."""
        return f"{self.address}/notifications"

    @property
    def events(self) -> str:
        """The URL that takes our events."""
        return f"{self.address}/events"

    @property
    def output(self) -> str:
        """The output of the bot since its last start."""
        return self.child.output if self.child else ""

    def start(self) -> "Bot":
        """Start the process, again or for the first time, and wait until it listens."""
        env = {"BOT_PORT": str(self.port), "PYTHONUNBUFFERED": "1", "BOT_SECRET": SECRET, **self.settings}
        self.child = self.children.start(self.language, self.programs.command(self.language), env=env)
        self.child.wait_for(READY)
        return self

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        assert self.child is not None
        self.child.kill()


def free_port() -> int:
    """Return a port that is free now. Settings name it before the bot listens on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trusting(ca_file: Path | str) -> dict[str, str]:
    """Return the variables that let both languages trust this certificate authority."""
    return {"SSL_CERT_FILE": str(ca_file), "NODE_EXTRA_CA_CERTS": str(ca_file)}
