"""docs/reliability.md says what the judge goes by."""

from soak.backoff_checker import MOST_EARLY
from soak.checker import MOST_IN_CALM, MOST_SWITCHES, MOST_WAITING
from soak.fault_schedule import Climate, forecast
from soak.intervals import MINUTE
from soak.liveness import Liveness
from tests.docs.documents import read, rows, section


def test_the_page_has_the_condition_of_the_judge() -> None:
    told = [(row[0], row[2], row[3]) for row in rows(section(read("docs/reliability.md"), "The condition"))]
    liveness = Liveness(forecast(0, Climate(hours=1, asked_by=("scheduler",))))
    paths = (*liveness.paths, *liveness.beginnings)
    assert told == [(path.name, f"{path.window / MINUTE:g}", f"{path.answers / MINUTE:g}") for path in paths]


def test_the_page_names_the_bounds_of_the_queue() -> None:
    told = read("docs/reliability.md")
    assert f"At most {MOST_SWITCHES} dead man's switches and {MOST_WAITING:,} messages" in told
    assert f"{MOST_IN_CALM} switches where" in told
    assert f"{MOST_EARLY} keepAlives at most" in told
