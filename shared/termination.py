"""The catalogue of end codes: why a call ended, in plain words. Its rows are in `termination_codes.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

UNKNOWN = "unknown"
NOT_TOLD = "Nobody has told why: Graph gave no reason."
_FILE = Path(__file__).with_name("termination_codes.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: what the codes mean, and what to do. `code` is None where the document gives the subcode alone."""

    code: int | None
    subcode: int
    reason: str
    category: str
    source: str
    action: str


@dataclass(frozen=True, slots=True)
class NamedReason:
    """What a `terminationReason` means; Graph sends it without codes, e.g. `AppTransferred`."""

    termination_reason: str
    reason: str
    category: str
    source: str
    action: str


@dataclass(frozen=True, slots=True)
class Document:
    """Where rows come from. `date` is the document's own, or that of the look."""

    title: str
    url: str | None
    date: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that is known. Of rows that share a subcode the first is preferred when only the subcode fits."""

    version: str
    sources: Mapping[str, Document]
    categories: Mapping[str, str]
    entries: tuple[Entry, ...]
    named: tuple[NamedReason, ...]
    by_codes: Mapping[tuple[int | None, int], Entry]
    by_subcode: Mapping[int, Entry]
    by_name: Mapping[str, NamedReason]

    def lookup(self, code: int | None, subcode: int | None) -> Entry | None:
        """The row of these codes: by both, then by the subcode alone, as services give one subcode several codes.

        Subcode 0 says nothing alone, so it must fit together with its code.
        """
        if subcode is None:
            return None
        return self.by_codes.get((code, subcode)) or (self.by_subcode.get(subcode) if subcode else None)

    def is_known(self, code: int | None, subcode: int | None) -> bool:
        """Whether there is a row for these codes."""
        return self.lookup(code, subcode) is not None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a call ended: a sentence, and one of the catalogue's categories."""

    reason: str
    category: str


@cache
def catalogue() -> Catalogue:
    """The catalogue, read from its file when it is first asked for."""
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    entries = tuple(Entry(**row) for row in data["codes"])
    named = tuple(
        NamedReason(termination_reason=row.pop("terminationReason"), **row) for row in data["terminationReasons"]
    )
    return Catalogue(
        version=data["version"],
        sources={name: Document(**source) for name, source in data["sources"].items()},
        categories=data["categories"],
        entries=entries,
        named=named,
        by_codes={(entry.code, entry.subcode): entry for entry in entries},
        by_subcode={entry.subcode: entry for entry in reversed(entries)},  # the first of its subcode is set last
        by_name={name.termination_reason.casefold(): name for name in named},
    )


def explain(code: int | str | None, subcode: int | str | None, termination_reason: str | None = None) -> Explanation:
    """Say why a call ended.

    Parameters
    ----------
    code, subcode
        As Graph gave them: numbers, or text that is no number, or None.
    termination_reason
        Graph's older word, e.g. `AppTransferred`. It counts where the codes are not in the catalogue.

    Returns
    -------
    What the catalogue says; for what it does not know, Graph's own words and the category `unknown`.
    """
    entry = catalogue().lookup(_number(code), _number(subcode))
    if entry:
        return Explanation(entry.reason, entry.category)
    name = catalogue().by_name.get(termination_reason.casefold()) if termination_reason else None
    if name and (name.category != UNKNOWN or (code is None and subcode is None)):
        return Explanation(name.reason, name.category)
    return Explanation(_verbatim(code, subcode, termination_reason), UNKNOWN)


def _number(given: int | str | None) -> int | None:
    return given if isinstance(given, int) else None


def _verbatim(code: int | str | None, subcode: int | str | None, termination_reason: str | None) -> str:
    given = (("code", code), ("subcode", subcode), ("terminationReason", termination_reason))
    told = ", ".join(f"{name} {value}" for name, value in given if value is not None)
    return f"Graph gave {told}, which is not in the catalogue." if told else NOT_TOLD
