"""An Azure CLI for tests: a small script that prints what it is told, and writes down what it was asked."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """#!/bin/sh
folder={folder}
echo "$*" >> "$folder/asked"
[ -f "$folder/complaint" ] && {{ cat "$folder/complaint" >&2; exit 1; }}
said=""
for word in "$@"; do
    said="${{said:+$said+}}$word"
    [ -f "$folder/$said.json" ] && exec cat "$folder/$said.json"
done
echo "ERROR: (NotThought) this script does not know that" >&2
exit 3
"""


@dataclass(frozen=True)
class FakeAz:
    folder: Path

    @classmethod
    def install(cls, folder: Path) -> "FakeAz":
        """A folder for the PATH."""
        folder.mkdir()
        program = folder / "az"
        program.write_text(_SCRIPT.format(folder=shlex.quote(str(folder))))
        program.chmod(0o755)
        return cls(folder)

    def answer(self, words: str, value: object) -> None:
        """What the command that begins with these words prints."""
        (self.folder / f"{words.replace(' ', '+')}.json").write_text(json.dumps(value))

    def complain(self, text: str) -> None:
        """Every command fails with these words."""
        (self.folder / "complaint").write_text(text)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()
