"""Microsoft's parser of KQL, which checks queries against the documented columns of a workspace's tables."""

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
    """A fault of a query: the parser's severity, code and message."""

    severity: str
    code: str
    message: str


class Comparison(_Model):
    """`subject operator values`; the subject is a column or `Properties.x`, also if it is converted or renamed."""

    subject: str
    operator: str
    values: tuple[str | int | float | bool | None, ...]


class Analysis(_Model):
    """The parser's analysis of a query.

    `fields` are the members of `Properties` that it reads, `ago` is the minutes of each `ago()` (None if it is no
    literal), and `columns` are the names and types of its result.
    """

    diagnostics: tuple[Diagnostic, ...]
    tables: frozenset[str]
    fields: frozenset[str]
    functions: frozenset[str]
    comparisons: tuple[Comparison, ...]
    ago: tuple[float | None, ...]
    columns: dict[str, str]

    def compared(self, subject: str) -> set[object]:
        """Return the literals that a column, or a member of `Properties`, is compared with."""
        return {value for found in self.comparisons if found.subject == subject for value in found.values}


class Answer(_Model):
    """An analysis, and the faults of the query in a workspace that has no tables yet."""

    analysis: Analysis
    without: tuple[Diagnostic, ...]


def analyse(queries: Sequence[str], package: Path = PACKAGE) -> tuple[Answer, ...]:
    """Analyse queries, all in one Node process.

    Raises
    ------
    FileNotFoundError
        The package is not installed. The tests then fail and do not skip, as `make setup` installs it.
    """
    if not (package / "package.json").is_file():
        raise FileNotFoundError(f"Microsoft's KQL parser is not installed in {package}. Run make setup.")
    wanted = {"package": str(package), "tables": TABLES, "queries": list(queries)}
    command = [find_node(), str(PROGRAM)]
    run = subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return TypeAdapter(tuple[Answer, ...]).validate_json(run.stdout)
