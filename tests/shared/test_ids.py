"""The one form of an id."""

import json
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.domain.calls import MAX_ID_LENGTH, canonical_id
from shared.domain.notifications import parse_notifications
from shared.errors import InvalidRequest

HYPHENATED = "2e1a0b00-2db4-4022-9570-243709c565ab"


@pytest.mark.parametrize(
    "text", [HYPHENATED, HYPHENATED.upper(), HYPHENATED.replace("-", ""), HYPHENATED.replace("-", "").upper()]
)
def test_graphs_two_forms_of_an_id_in_either_case_are_one(text: str) -> None:
    assert canonical_id(text) == HYPHENATED


# Each emoji is two UTF-16 units.
LONGEST_OF_EMOJIS = "😀" * (MAX_ID_LENGTH // 2)


@pytest.mark.parametrize(
    "text", ["a", "...", "19:meeting@thread.v2", "x" * MAX_ID_LENGTH, LONGEST_OF_EMOJIS, "ABC", HYPHENATED + "0"]
)
def test_an_opaque_id_is_kept(text: str) -> None:
    assert canonical_id(text) == text


@pytest.mark.parametrize("text", ["x" * (MAX_ID_LENGTH + 1), LONGEST_OF_EMOJIS + "😀", "x" + LONGEST_OF_EMOJIS])
def test_an_id_is_bounded_in_the_units_that_table_storage_counts(text: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 200"):
        canonical_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a b",
        "a/b",
        "a\\b",
        "a#b",
        "a?b",
        "a%b",
        "a|b",
        "a\n",
        "\x7f",
        "\u2028",
        "\ud800",
        "a\u0085",
        "a\ufffd",
        "\ufffe",
        "a\uffff",
    ],
)
def test_what_no_url_or_key_can_hold_is_no_id(text: str) -> None:
    with pytest.raises(InvalidRequest, match="without spaces"):
        canonical_id(text)


@settings(deadline=None)  # a machine that is busy fails no test
@given(st.text(min_size=1, max_size=3) | st.text("\ufffc\ufffd\ufffe\uffff\ufffea%. ", min_size=1, max_size=3))
@example("\ufffe")
@example("a\uffff")
@example("\ufffd")
def test_an_id_can_be_registered_if_and_only_if_it_can_be_notified(text: str) -> None:
    registered, notified = None, None
    with suppress(InvalidRequest):
        registered = canonical_id(text)
    url = f"/communications/calls/{quote(text, safe='', errors='surrogatepass')}"
    (notified,) = parse_notifications(json.dumps({"value": [{"resourceUrl": url}]}).encode()).notifications or (None,)
    assert registered == (notified and notified.call_id)
