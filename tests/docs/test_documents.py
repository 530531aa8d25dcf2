"""The documents are consistent: links, commands, diagrams and folders exist."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.documents import Block, anchors, blocks, code, documents, is_ours, links, read, rows, section
from tests.infra.operators import RUN_BY_OPERATORS
from tools.docs_tables import ROOT

DOCUMENTS = documents()
BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
MERMAID = [block for block in BLOCKS if block.language == "mermaid"]
DIAGRAMS = {"flowchart", "sequenceDiagram", "stateDiagram-v2"}
LANGUAGES = {"bash", "json", "mermaid", "text", "python", "typescript", "csharp", "http"}
FOLDERS = {"bench", "doctor", "infra", "local", "release", "shared", "simulator", "soak", "tests", "tools"}
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
DEMO_STORY = ("__main__", "relay", "report")  # modules that print chapters of the demo
MAX_DECISION_WORDS = 750  # 3 minutes of reading at 250 words a minute


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_target_of_each_internal_link_exists(path: Path) -> None:
    for target in links(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_each_external_link_is_https(path: Path) -> None:
    external = [target for target in links(path.read_text(encoding="utf-8")) if re.match(r"[a-z]+:", target)]
    assert [target for target in external if not target.startswith("https://")] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_fences_are_closed_and_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(list(blocks(path)))
    assert {block.language for block in blocks(path)} <= LANGUAGES or not is_ours(path)


@pytest.mark.parametrize("block", MERMAID, ids=lambda block: block.id)
def test_a_diagram_has_a_known_kind_and_is_not_empty(block: Block) -> None:
    head, *lines = block.body.strip().splitlines()
    assert head.split()[0] in DIAGRAMS
    assert len(lines) > 2
    ids = set(re.findall(r"(?:^|> )\s*(\w+)(?=[\[({])", block.body, re.MULTILINE))
    assert ids.isdisjoint({"graph", "end", "class", "style", "default"}), "a node has a reserved name"


def test_the_readme_and_the_architecture_have_diagrams() -> None:
    assert {name_of(block.path) for block in MERMAID} >= {"README.md", "docs/architecture.md"}
    assert {block.body.split()[0] for block in MERMAID if block.path.name == "architecture.md"} == DIAGRAMS


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = {
        found
        for path in DOCUMENTS
        for text in (path.read_text(encoding="utf-8"),)
        for found in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_module_that_a_command_names_exists() -> None:
    named = {
        found
        for path in DOCUMENTS
        for found in re.findall(r"python3? -m ([a-z_.]+)", path.read_text(encoding="utf-8"))
        if found.split(".")[0] in FOLDERS
    }
    paths = [ROOT / found.replace(".", "/") for found in named]
    assert [str(path) for path in paths if not (path.is_dir() or path.with_suffix(".py").is_file())] == []


def test_a_python_command_uses_the_virtual_environment() -> None:
    """Another Python lacks the packages. Only the commands of operators need none."""
    commands = [line for block in BLOCKS if block.language == "bash" for line in block.body.splitlines()]
    bare = [found for line in commands for found in re.findall(r"(?<!\.venv/bin/)\bpython3? -m ([\w.]+)", line)]
    assert set(bare) - {"json", *RUN_BY_OPERATORS} == set()


def test_the_readme_names_the_folders_that_exist() -> None:
    documented = {code(row[0])[0].rstrip("/") for row in rows(section(read("README.md"), "What is where"))}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    existing = {name.split("/")[0] for name in listed if "/" in name and (ROOT / name).exists()}
    assert documented == existing


def test_the_readme_shows_the_output_of_a_successful_demo() -> None:
    text = read("README.md")
    shown = text.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]
    assert shown.strip().endswith("demo: ok\n```")
    titles = re.findall(r'\.title\(\s*"([^"]+)"', "".join(read(f"local/demo/{name}.py") for name in DEMO_STORY))
    assert len(titles) > len(DEMO_STORY)
    assert [title for title in titles if f"{title}\n" not in shown] == []


def test_the_index_of_decisions_lists_each_with_its_title() -> None:
    indexed = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((\S+)\) \|$", read("docs/decisions/README.md"), re.MULTILINE)
    existing = [
        (path.name[:4], path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "), path.name)
        for path in DECISIONS
    ]
    assert indexed == existing


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_its_three_parts_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == ["Context", "Decision", "Consequences"]
    assert len(text.split()) <= MAX_DECISION_WORDS


def test_the_changelog_has_a_section_for_unreleased_changes() -> None:
    assert re.search(r"^## \[Unreleased\]\n\n### (Added|Changed|Fixed)\n\n- ", read("CHANGELOG.md"), re.MULTILINE)


def test_the_deployment_pages_have_the_number_of_alerts() -> None:
    rules = (ROOT / "infra" / "modules" / "monitoring.bicep").read_text(encoding="utf-8").count(".kql')")
    words = {8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
    for page in ("docs/cost.md", "docs/deploy-troubleshooting.md"):
        assert re.findall(r"(\w+) alert (?:rules|queries)", read(page)) == [words[rules]]
