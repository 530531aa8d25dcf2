"""A fake Azure CLI: a script that prints prepared answers and records its arguments."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """#!/bin/sh
folder={folder}
echo "$*" >> "$folder/commands"
[ -f "$folder/error" ] && {{ cat "$folder/error" >&2; exit 1; }}
name=""
for word in "$@"; do
    name="${{name:+$name+}}$word"
    [ -f "$folder/$name.json" ] && exec cat "$folder/$name.json"
done
echo "ERROR: (NotPrepared) the fake az has no answer for this command" >&2
exit 3
"""


@dataclass(frozen=True)
class FakeAz:
    """The script `az` in its own folder, which goes on the PATH."""

    folder: Path

    @classmethod
    def install(cls, folder: Path) -> "FakeAz":
        """Create the folder and the script."""
        folder.mkdir()
        program = folder / "az"
        program.write_text(_SCRIPT.format(folder=shlex.quote(str(folder))))
        program.chmod(0o755)
        return cls(folder)

    def answer(self, words: str, value: object) -> None:
        """Set the JSON that commands print if they begin with these words."""
        (self.folder / f"{words.replace(' ', '+')}.json").write_text(json.dumps(value))

    def fail(self, text: str) -> None:
        """Let every command fail with this text on stderr."""
        (self.folder / "error").write_text(text)

    @property
    def commands(self) -> list[str]:
        """The arguments of all commands so far, one line each."""
        return (self.folder / "commands").read_text().splitlines()
