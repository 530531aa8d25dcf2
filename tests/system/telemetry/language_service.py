"""Microsoft's parser of KQL: what it says of queries, against the documented columns of a workspace's tables."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from local.stack.azurite import find_node
from local.stack.stack import ROOT

PACKAGE = ROOT / "node_modules" / "@kusto" / "language-service-next"
PROGRAM = Path(__file__).with_name("analyse.js")
TABLES: dict[str, dict[str, str]] = json.loads(
    (ROOT / "tests" / "data" / "workspace-tables.json").read_text(encoding="utf-8")
)["tables"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Diagnostic(_Model):
    """What is wrong with a query: the parser's severity, code and words."""

    severity: str
    code: str
    message: str


class Comparison(_Model):
    """`subject operator values`. The subject is a column, or `Properties.x`, whatever it is converted to or named."""

    subject: str
    operator: str
    values: tuple[str | int | float | bool | None, ...]


class Analysis(_Model):
    """A query, as the parser understands it.

    `fields` are those of `Properties` that it reads, `ago` the minutes of each `ago()` (None if that is no literal),
    `columns` the names and types of what it gives.
    """

    diagnostics: tuple[Diagnostic, ...]
    tables: frozenset[str]
    fields: frozenset[str]
    functions: frozenset[str]
    comparisons: tuple[Comparison, ...]
    ago: tuple[float | None, ...]
    columns: dict[str, str]

    def compared(self, subject: str) -> set[object]:
        """The literals that a column, or a field of `Properties`, is compared with."""
        return {value for found in self.comparisons if found.subject == subject for value in found.values}


class Answer(_Model):
    """An analysis, and what is wrong with the query in a workspace that has no tables yet."""

    analysis: Analysis
    without: tuple[Diagnostic, ...]


def analyse(queries: Sequence[str], package: Path = PACKAGE) -> tuple[Answer, ...]:
    """Analyse queries, all in one Node process.

    Raises
    ------
    FileNotFoundError
        The package is not installed. This is no reason to skip: `make setup` installs it.
    """
    if not (package / "package.json").is_file():
        raise FileNotFoundError(f"Microsoft's KQL parser is not installed in {package}. Run make setup.")
    wanted = {"package": str(package), "tables": TABLES, "queries": list(queries)}
    command = [find_node(), str(PROGRAM)]
    run = subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return TypeAdapter(tuple[Answer, ...]).validate_json(run.stdout)
