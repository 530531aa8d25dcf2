"""The catalogue holds what the documents list, and passes on what no document does."""

import json
import re
from pathlib import Path

import pytest

from shared.termination import NOT_TOLD, UNKNOWN, Entry, NamedReason, catalogue, explain

ROWS: list[Entry | NamedReason] = [*catalogue().entries, *catalogue().named]
PAGE = Path(__file__).parents[1] / "data" / "call-delete-page.md"
ROW = re.compile(r"^\| (\d+) +\| ([\d/]+) +\| (.+?) +\|$", re.MULTILINE)


def page_codes() -> list[tuple[int, int]]:
    """The codes of the delete page's table; one of its rows holds two subcodes."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [(int(code), int(subcode)) for code, subcodes, _ in rows for subcode in subcodes.split("/")]


def test_the_copy_of_the_delete_page_has_its_29_rows_with_30_codes() -> None:
    assert len(ROW.findall(PAGE.read_text(encoding="utf-8"))) == 29
    assert len(page_codes()) == 30


@pytest.mark.parametrize(("code", "subcode"), page_codes())
def test_each_code_of_the_delete_page_is_there(code: int, subcode: int) -> None:
    entry = catalogue().by_codes[code, subcode]

    assert entry.source == "deletePage"
    assert catalogue().lookup(code, subcode) is entry
    assert explain(code, subcode).reason == entry.reason


def test_nothing_is_said_to_be_on_the_delete_page_that_is_not() -> None:
    listed = {(entry.code, entry.subcode) for entry in catalogue().entries if entry.source == "deletePage"}

    assert listed == set(page_codes())


FURTHER: dict[str, list[tuple[int | None, int]]] = {
    "acsCallEnd": [
        *((487, 0), (603, 0), (410, 3100), (410, 3101), (410, 3111), (410, 3112), (490, 4502), (408, 4506)),
        *((495, 4507), (0, 5317), (403, 5828), (403, 5829), (403, 5830), (487, 10003), (487, 10004), (487, 10024)),
        *((401, 10009), (480, 10077), (480, 10078), (410, 301004), (403, 510403), (487, 540487), (486, 560486)),
    ],
    "callAutomation": [
        *((None, subcode) for subcode in (7500, 7501, 7502, 7506, 8502, 8503, *range(8508, 8516), 8517, 8529, 8530)),
        *((None, subcode) for subcode in (8535, 8536, *range(8538, 8545), 8553, 8571, 8586, 8587, 8588, 8589, 8610)),
        *((403, 7504), (403, 7505), (403, 7507), (400, 8500), (400, 8501), (429, 8516), (409, 8519), (404, 8522)),
        *((400, 8523), (400, 8528), (400, 8585)),
    ],
    "observed": [
        *((500, 1999), (500, 3002), (500, 3003), (500, 7106), (500, 7117), (408, 13025), (408, 8544), (0, 7015)),
        (410, 10216),
    ],
}


@pytest.mark.parametrize(("source", "codes"), FURTHER.items())
def test_the_further_lists_are_there(source: str, codes: list[tuple[int | None, int]]) -> None:
    assert {catalogue().by_codes[pair].source for pair in codes} == {source}


@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry.reason[:30])
def test_a_row_says_why_and_what_to_do_in_one_sentence_each(entry: Entry | NamedReason) -> None:
    assert entry.category in catalogue().categories
    assert entry.source in catalogue().sources
    for sentence in (entry.reason, entry.action):
        assert re.fullmatch(r"[A-Z][^\n]{10,180}\.", sentence)
        assert ". " not in sentence


def test_no_codes_stand_twice_and_every_category_and_source_is_used() -> None:
    known = catalogue()

    assert len(known.by_codes) == len(known.entries)
    assert {row.category for row in ROWS} == set(known.categories)
    assert {row.source for row in ROWS} == set(known.sources)


def test_no_code_is_listed_as_unknown_as_those_are_counted_as_missing() -> None:
    assert all(entry.category != UNKNOWN for entry in catalogue().entries)


@pytest.mark.parametrize(
    ("subcode", "category"),
    [
        (7000, "byBot"),
        (10550, "byBot"),
        (4097, "byPeople"),
        (560000, "byPeople"),
        (5010, "empty"),
        (5020, "empty"),
        (5030, "policy"),
        (7015, "transfer"),
        (8537, "keepAlive"),
        (1106, "notReached"),
        (10199, "notReached"),
        (1005, "media"),
        (301005, "media"),
        (7117, "service"),
        (8587, "botFault"),
        (8514, "operation"),
    ],
)
def test_codes_fall_into_categories(subcode: int, category: str) -> None:
    assert explain(None, subcode).category == category


def test_a_row_is_found_by_its_subcode_alone_where_the_code_is_another() -> None:
    assert catalogue().lookup(0, 5010) == catalogue().lookup(200, 5010)
    assert catalogue().lookup(None, 8537) == catalogue().lookup(408, 8537)


def test_of_rows_with_one_subcode_that_of_the_delete_page_is_preferred() -> None:
    assert [entry.code for entry in catalogue().entries if entry.subcode == 7015] == [200, 0]
    assert catalogue().by_subcode[7015].code == 200
    assert catalogue().by_codes[0, 7015] == catalogue().lookup(0, 7015)


def test_subcode_0_alone_says_nothing() -> None:
    assert catalogue().is_known(487, 0)
    assert not catalogue().is_known(200, 0)
    assert not catalogue().is_known(None, 0)


def test_a_code_without_a_subcode_says_nothing() -> None:
    assert not catalogue().is_known(200, None)
    assert not catalogue().is_known(None, None)


def test_unknown_codes_pass_through_as_they_are() -> None:
    why = explain(503, 987654)

    assert why.category == UNKNOWN
    assert why.reason == "Graph gave code 503, subcode 987654, which is not in the catalogue."


def test_codes_that_are_text_pass_through_too() -> None:
    assert explain("Gone", "n/a").reason == "Graph gave code Gone, subcode n/a, which is not in the catalogue."
    assert explain(None, "5010").category == UNKNOWN  # text is what a number could not be made of


def test_no_word_at_all_is_told_as_such() -> None:
    assert explain(None, None).reason == NOT_TOLD
    assert explain(None, None).category == UNKNOWN


def test_a_termination_reason_without_codes_gives_a_reason_and_a_category() -> None:
    assert explain(None, None, "AppTransferred").category == "transfer"
    assert explain(None, None, "apptransferred") == explain(None, None, "AppTransferred")


def test_an_unknown_termination_reason_passes_through() -> None:
    why = explain(None, None, "SomethingNew")

    assert why.category == UNKNOWN
    assert why.reason == "Graph gave terminationReason SomethingNew, which is not in the catalogue."


def test_codes_explain_before_a_termination_reason_and_it_before_unknown_codes() -> None:
    assert explain(200, 5010, "AppTransferred").category == "empty"
    assert explain(200, 987654, "AppTransferred").category == "transfer"
    assert "987654" in explain(200, 987654, "CallTerminated").reason  # that word says less than the codes


def test_the_catalogue_is_read_once_and_says_how_old_it_is() -> None:
    assert catalogue() is catalogue()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", catalogue().version)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", source.date) for source in catalogue().sources.values())


def test_no_name_stands_twice_in_the_file() -> None:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    path = Path(__file__).parents[2] / "shared" / "termination_codes.json"
    assert json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
