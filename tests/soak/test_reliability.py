"""Checks that docs/reliability.md states the condition and the bounds that the checker uses."""

from shared.relay.exchange import MIN_BEARER_LIFE
from soak.backoff_checker import MAX_EARLY
from soak.checker import MAX_MESSAGES, MAX_WATCHDOGS, MAX_WATCHDOGS_WITHOUT_OUTAGES
from soak.fault_schedule import FaultProfile, draw
from soak.intervals import MINUTE
from soak.isolation import MAX_WORSE
from soak.liveness import LivenessCondition
from soak.presets import PRESETS
from soak.relay_checker import CACHE_TTL, LATEST, MAX_REFUSALS, MAX_TWICE, MIN_REFUSALS
from tests.docs.documents import read, rows, section
from tools.docs_tables import ROOT


def test_the_page_has_the_condition_of_the_checker() -> None:
    listed = [(row[0], row[2], row[3]) for row in rows(section(read("docs/reliability.md"), "The condition"))]
    liveness = LivenessCondition(draw(0, FaultProfile(hours=1, sweep_requesters=("scheduler",))))
    paths = (*liveness.paths, *liveness.first_paths)
    assert listed == [(path.name, f"{path.window / MINUTE:g}", f"{path.tail / MINUTE:g}") for path in paths]


def test_the_page_has_the_path_that_only_a_fan_out_has() -> None:
    liveness = LivenessCondition(draw(0, PRESETS["fan-out"]))
    alone = next(path for path in liveness.paths if path.name == "timer alone")
    assert f"so alone it takes {alone.window / MINUTE:g} minutes" in " ".join(read("docs/reliability.md").split())


def test_the_page_has_the_bounds_of_the_queue_and_of_early_keep_alives() -> None:
    page = " ".join(read("docs/reliability.md").split())  # lines are wrapped
    assert f"at most {MAX_WATCHDOGS} watchdog messages and {MAX_MESSAGES:,} messages in all" in page
    assert f"{MAX_WATCHDOGS_WITHOUT_OUTAGES} watchdog messages if" in page
    assert f"at most {MAX_EARLY} keepAlives" in page


def test_the_page_has_the_bounds_of_the_relay() -> None:
    page = " ".join(section(read("docs/reliability.md"), "What the relay promises").split())
    assert f"{LATEST / MINUTE:g} minutes after the last fault" in page
    assert f"refused {MIN_REFUSALS} to {MAX_REFUSALS} times" in page
    assert f"at most {MAX_TWICE:.0%}".replace("%", " %") in page
    assert f"at most {MAX_WORSE:.2f} times" in page
    assert f"{MIN_BEARER_LIFE.total_seconds():g} seconds of life" in page
    assert f"may take {CACHE_TTL:g} seconds" in page


def test_the_page_names_unit_tests_that_exist() -> None:
    named = {row[1].strip("`") for row in rows(section(read("docs/reliability.md"), "What it does not find"))}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "shared").rglob("test_*.py")]
    assert {name for name in named if not any(f"def {name}(" in source for source in sources)} == set()
