"""The catalogue holds what the documents list, and passes on what no document does."""

import json
import re
from pathlib import Path

import pytest

from shared.domain.explanation import (
    ASK_SUPPORT,
    BOT_IS_CALLEE,
    NO_REASON_GIVEN,
    Context,
    Facts,
    explain,
    explain_keep_alive,
    explain_operation,
)
from shared.domain.termination import UNKNOWN, CitedMeaning, CodeEntry, catalogue

ROWS: list[CitedMeaning] = [*catalogue().entries, *catalogue().classes, *catalogue().named]
SUCCESSES = [row for row in catalogue().entries if row.is_success]
PAGE = Path(__file__).parents[2] / "data" / "call-delete-page.md"
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


@pytest.mark.parametrize(("source", "codes"), FURTHER.items(), ids=FURTHER)
def test_the_further_lists_are_there(source: str, codes: list[tuple[int | None, int]]) -> None:
    assert {catalogue().by_codes[pair].source for pair in codes} == {source}


@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry.reason[:30])
def test_a_row_says_why_and_what_to_do_in_one_sentence_each(entry: CitedMeaning) -> None:
    assert entry.category in catalogue().categories
    assert entry.source in catalogue().sources
    assert entry.fault_owner in catalogue().fault_owners
    assert entry.evidence in {"documented", "observed"}
    assert (entry.evidence == "observed") == (entry.source in {"observed", "uiLibrary"})
    for sentence in (entry.reason, entry.action):
        assert re.fullmatch(r"[A-Z][^\n]{10,180}\.", sentence)
        assert ". " not in sentence


def test_no_codes_stand_twice_and_every_category_and_source_is_used() -> None:
    known = catalogue()

    assert len(known.by_codes) == len(known.entries)
    assert {row.category for row in ROWS} == set(known.categories)
    assert {row.source for row in ROWS} == set(known.sources)
    assert set(known.symptoms) == set(known.categories)
    owners = {row.fault_owner for row in ROWS} | {row.fault_owner for row in known.sip_codes}
    assert owners | {row.fault_owner for row in known.by_word.values()} == set(known.fault_owners)


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
    assert catalogue().by_subcode[7015][0].code == 200
    assert catalogue().by_codes[0, 7015] == catalogue().lookup(0, 7015)


def test_subcode_0_alone_says_nothing() -> None:
    assert catalogue().is_known(487, 0)
    assert not catalogue().is_known(200, 0)
    assert not catalogue().is_known(None, 0)


def test_a_code_without_a_subcode_says_nothing() -> None:
    assert not catalogue().is_known(200, None)
    assert not catalogue().is_known(None, None)


def test_of_unknown_codes_the_code_alone_explains() -> None:
    why = explain(504, 987654)

    assert (why.category, why.fault_owner, why.retryable) == ("service", "service", True)
    assert why.reason == "The service did not answer in time; only the code is known, not its subcode 987654."


def test_codes_that_nothing_explains_pass_through_with_advice() -> None:
    why = explain(200, 987654)

    assert (why.category, why.action) == (UNKNOWN, ASK_SUPPORT)
    assert why.reason == "Graph gave code 200, subcode 987654, which is not in the catalogue."


def test_codes_that_are_text_pass_through_too() -> None:
    assert explain("Gone", "n/a").reason == "Graph gave code Gone, subcode n/a, which is not in the catalogue."
    assert explain(None, "5010").category == UNKNOWN  # text is what a number could not be made of


def test_an_end_without_any_reason_is_explained_as_such() -> None:
    assert explain(None, None).reason == NO_REASON_GIVEN
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

    path = Path(__file__).parents[3] / "shared" / "domain" / "termination_codes.json"
    assert json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)


# The rules behind the rows


@pytest.mark.parametrize(
    "entry", [row for row in catalogue().entries if row.is_success], ids=lambda row: str(row.subcode)
)
@pytest.mark.parametrize("code", [300, 403, 408, 480, 500, 503, 603])
def test_a_success_never_explains_a_failure(entry: CodeEntry, code: int) -> None:
    meaning = catalogue().lookup(code, entry.subcode)
    assert meaning is None or not meaning.is_success
    assert explain(code, entry.subcode).category not in {"byBot", "empty"}
    assert explain(code, 9999, None, f"Failed. DiagCode: 0#{entry.subcode}.@").reason != entry.reason


@pytest.mark.parametrize(
    ("code", "category"),
    [
        *((400, "botFault"), (401, "botFault"), (403, "policy"), (404, "notReached"), (408, "notReached")),
        *((410, "media"), (422, "botFault"), (429, "service"), (480, "notReached"), (486, "notReached")),
        *((487, "notReached"), (490, "media"), (493, "media"), (499, "media"), (500, "service"), (503, "service")),
        *((504, "service"), (599, "service"), (603, "notReached"), (699, "notReached")),
    ],
)
def test_a_code_alone_explains_by_its_class(code: int, category: str) -> None:
    for subcode in (None, 987654, "text"):
        why = explain(code, subcode)
        assert (why.category, "only the code is known" in why.reason) == (category, True)
        assert why.action


@pytest.mark.parametrize(
    ("subcode", "leg", "category"),
    [
        *((540480, "inbound", "notReached"), (560487, None, "byPeople"), (560488, "outbound", "media")),
        *((540503, "inbound", "service"), (560604, "outbound", "notReached"), (540302, "inbound", "notReached")),
    ],
)
def test_a_telephone_subcode_is_a_leg_and_a_sip_code(subcode: int, leg: str | None, category: str) -> None:
    why = explain(subcode % 1000, subcode)
    assert why.category == category
    if leg:  # a row of the table has its own words
        assert f"{leg} call answered with SIP {subcode % 1000}" in why.reason
        assert catalogue().is_known(None, subcode)


@pytest.mark.parametrize("subcode", [540999, 540100, 550480, 56048, 5604801])
def test_what_only_looks_like_a_telephone_subcode_is_none(subcode: int) -> None:
    assert catalogue().lookup_family(subcode) is None


def test_a_subcode_whose_meaning_depends_on_its_code_needs_that_code() -> None:
    assert "configuration" in explain(405, 8522).reason
    assert "does not know the call" in explain(404, 8522).reason
    assert explain(None, 8522) == explain(404, 8522)
    assert "conflicts" in explain(409, 8522).reason


@pytest.mark.parametrize("message", ["DiagCode: 480#10037.@", "x diagcode:480#10037", "DiagCode: 3003#10037"])
@pytest.mark.parametrize("subcode", [9999, 8518, 987654])
def test_the_diag_code_replaces_a_subcode_without_meaning(subcode: int, message: str) -> None:
    assert explain(500, subcode, None, message) == explain(480, 10037)


def test_an_unknown_diag_code_gives_at_least_its_class() -> None:
    assert explain(500, 9999, None, "DiagCode: 403#10151.@") == explain(403, None)
    assert explain(500, 9999, None, "DiagCode: 500#1.@") == explain(500, 9999)


def test_the_codes_of_graph_explain_before_a_diag_code() -> None:
    assert explain(500, 7106, None, "DiagCode: 480#10037.@").category == "media"


def test_a_word_for_a_success_does_not_explain_a_failure() -> None:
    assert explain(500, 987654, "AppTransferred").category == "service"
    assert explain(None, None, "AppRedirected").category == "transfer"


@pytest.mark.parametrize(
    "entry", [row for row in catalogue().entries if row.category == "notReached"], ids=lambda row: str(row.subcode)
)
def test_no_advice_is_to_call_a_bot_that_is_the_callee(entry: CodeEntry) -> None:
    incoming = explain(entry.code, entry.subcode, context=Context(incoming=True))
    if entry.subcode is None or entry.subcode < 500_000:
        assert incoming.action in {BOT_IS_CALLEE, "Nothing to do."}
    assert explain(entry.code, entry.subcode).action == entry.action


def test_an_incoming_call_without_codes_gets_the_possible_reasons() -> None:
    why = explain(None, None, context=Context(incoming=True))
    assert why.reason == "The incoming call was rejected, redirected or not answered in time; Graph gave no reason."
    assert explain(None, None, context=Context(incoming=True, ever_established=True)).reason == NO_REASON_GIVEN


@pytest.mark.parametrize("given", [(None, None), (None, "text"), ("text", None), (200, 1), (0, 1), (3, 4), (500, 9999)])
def test_there_is_always_advice(given: tuple[int | str | None, int | str | None]) -> None:
    assert explain(*given).action
    assert explain(*given, context=Context(by_notification=False)).action
    assert explain(*given, context=Context(not_found_for="somebody")).action


# Operations, and keepAlives that fail


def test_a_failed_operation_is_explained_by_its_codes_or_its_completion_reason() -> None:
    assert explain_operation(Facts(400, 8508), None).category == "operation"
    assert "prompt" in explain_operation(Facts(500), "playPromptFailed").reason
    assert explain_operation(Facts(500), "newWord").category == "service"
    assert explain_operation(Facts(), None).action


@pytest.mark.parametrize(
    ("word", "status", "subcode", "owner"),
    [
        *(("forbidden", 403, 7505, "bot"), ("forbidden", 403, None, "bot"), ("rejected", 400, 8501, "bot")),
        *(("rejected", 418, None, "unknown"), ("unavailable", 503, None, "service"), ("noToken", None, None, "bot")),
        *(("notFoundYet", 404, 8522, "unknown"), ("internalError", None, None, "keeper")),
        *(("throttled", 429, 8516, "service"), ("postponed", None, None, "service"), ("newWord", 503, None, "service")),
    ],
)
def test_a_failing_keep_alive_says_whose_doing_it_is(
    word: str, status: int | None, subcode: int | None, owner: str
) -> None:
    why = explain_keep_alive(word, status, subcode)
    assert why.fault_owner == owner
    assert why.action
    assert why.category in catalogue().categories


def test_every_word_for_a_failing_keep_alive_is_explained() -> None:
    source = (Path(__file__).parents[3] / "shared" / "keeping" / "renewer.py").read_text(encoding="utf-8")
    words = set(re.findall(r'reason = "(\w+)"', source)) | {"postponed"}
    assert words == set(catalogue().by_word)
