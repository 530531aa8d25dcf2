"""docs/bots.md and the READMEs of the example bots agree with the bots, the settings and the pinned packages."""

import json
import re

import pytest

from shared.config.settings import load_settings
from tests.docs.documents import Block, blocks, code, read, rows
from tools.docs_tables import ROOT

APP_ID = "3f1d9a52-7c84-4e0b-a6d9-1b5c2e8f7a60"
BLOCKS = list(blocks(ROOT / "docs" / "bots.md"))
CODE = [block for block in BLOCKS if block.kind.startswith("examples/")]
TARGETS = [block for block in BLOCKS if block.kind == "RELAY_TARGETS"]
BOTS = sorted(path.parent for path in (ROOT / "examples" / "bots").glob("*/README.md"))
SETTINGS = {
    "CALLS_STORAGE": "UseDevelopmentStorage=true",
    "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
    "GRAPH_APP_ID": APP_ID,
}


def test_the_page_shows_each_piece_of_code_in_both_languages() -> None:
    assert [block.language for block in CODE] == 5 * ["python", "typescript"]


@pytest.mark.parametrize("block", CODE, ids=lambda block: block.id)
def test_code_on_the_page_is_the_bots(block: Block) -> None:
    assert block.body in read(block.kind)


@pytest.mark.parametrize("block", TARGETS, ids=lambda block: block.id)
def test_targets_on_the_page_are_accepted(block: Block) -> None:
    settings = load_settings({**SETTINGS, "RELAY_TARGETS": block.body})
    assert settings.relay_fault is None
    assert [target.name for target in settings.relay_targets] == [one["name"] for one in json.loads(block.body)]


def test_budgets_and_retention_on_the_page_are_the_defaults() -> None:
    settings, page = load_settings(SETTINGS), read("docs/bots.md")
    assert f"`RELAY_BUDGET` ({settings.relay_budget.total_seconds():g} s)" in page
    assert f"`RELAY_SYNC_BUDGET` ({settings.relay_sync_budget.total_seconds():g} s)" in page
    assert f"`RELAY_BODY_RETENTION` ({settings.relay_body_retention.days} days)" in page


@pytest.mark.parametrize("folder", BOTS, ids=lambda folder: folder.name)
def test_a_readme_lists_the_variables_and_files_of_its_bot(folder: str) -> None:
    text = read(f"{folder}/README.md")
    listed = [name for row in rows(text) for name in code(row[0])]
    programs = {
        path.name: path.read_text("utf-8") for path in (ROOT / folder).iterdir() if path.suffix in {".py", ".ts"}
    }
    (settings,) = (text for name, text in programs.items() if name.startswith("bot."))
    assert {name for name in listed if name.isupper()} == set(re.findall(r'"([A-Z]+_[A-Z_]+)"', settings))
    assert {name for name in listed if not name.isupper()} == set(programs)


def test_the_typescript_bot_has_the_versions_that_are_tested() -> None:
    bot, tested = (json.loads(read(name)) for name in ("examples/bots/typescript/package.json", "package.json"))
    wanted = bot["dependencies"] | bot["devDependencies"]
    assert {name: tested["devDependencies"][name] for name in wanted} == wanted
    assert bot["engines"] == tested["engines"]
