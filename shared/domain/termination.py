"""The catalogue of end codes. Its rows are in `termination_codes.json`; `explanation` has the rules for them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from pydantic.alias_generators import to_snake

UNKNOWN = "unknown"
SUCCESS_BELOW = 300  # codes from here on are failures, as in HTTP and SIP
_FILE = Path(__file__).with_name("termination_codes.json")
_FAMILY_SIZE = 1000  # a telephone subcode: a prefix of three digits, then a SIP code of three digits


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a row. `fault_owner`: who can change it. `retryable`: the same again may succeed."""

    reason: str
    category: str
    action: str
    fault_owner: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class CitedMeaning(Meaning):
    """A row with its source. `evidence` is `documented`, or `observed`: known only from public reports or code."""

    source: str
    evidence: str


@dataclass(frozen=True, slots=True)
class CodeEntry(CitedMeaning):
    """A row for codes.

    `code` is None if the document gives only the subcode; `subcode` is None if the row is for the code alone.
    `generic`: the subcode has no precise meaning, so a DiagCode in the message is better. `exact_code`: with another
    code the subcode has another meaning. Readers of the documents get `symptom`, `message` (Graph's words) and
    `threads` (public reports).
    """

    code: int | None
    subcode: int | None
    generic: bool = False
    exact_code: bool = False
    symptom: str | None = None
    message: str | None = None
    threads: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """True if the row's code is one of success."""
        return self.code is not None and self.code < SUCCESS_BELOW


@dataclass(frozen=True, slots=True)
class CodeRange(CitedMeaning):
    """The meaning of the codes of a range, without a subcode."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class NamedReason(CitedMeaning):
    """The meaning of a `terminationReason`, e.g. `AppTransferred`. Graph sends it without codes."""

    termination_reason: str


@dataclass(frozen=True, slots=True)
class TelephoneFamily:
    """Telephone subcodes: `prefix`, then the SIP code from the SBC or the telephone provider."""

    prefix: int
    leg: str
    source: str
    evidence: str


@dataclass(frozen=True, slots=True)
class SipCodes:
    """The meaning of the SIP codes of a range."""

    first: int
    last: int
    meaning: str
    category: str
    fault_owner: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class KeepAliveFailure(Meaning):
    """Why a keepAlive failed, by the reason on record (`word`)."""

    word: str


@dataclass(frozen=True, slots=True)
class Document:
    """A source of rows. `date` is that of the document, or the day on which it was read."""

    title: str
    url: str | None
    date: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All rows, with indexes. If only the subcode fits, the first of the rows with that subcode is preferred."""

    version: str
    sources: Mapping[str, Document]
    categories: Mapping[str, str]
    symptoms: Mapping[str, str]
    fault_owners: Mapping[str, str]
    entries: tuple[CodeEntry, ...]
    classes: tuple[CodeRange, ...]
    families: tuple[TelephoneFamily, ...]
    sip_codes: tuple[SipCodes, ...]
    named: tuple[NamedReason, ...]
    by_codes: Mapping[tuple[int | None, int | None], CodeEntry]
    by_subcode: Mapping[int, tuple[CodeEntry, ...]]
    by_name: Mapping[str, NamedReason]
    by_word: Mapping[str, KeepAliveFailure]

    def lookup(self, code: int | None, subcode: int | None) -> CodeEntry | None:
        """Return the row of both codes, else a row of the subcode: services send one subcode with several codes.

        A row for a success never explains a failure. Subcode 0 has no meaning alone, so its code must fit too.
        """
        if subcode is None:
            return None
        if entry := self.by_codes.get((code, subcode)):
            return entry
        rows = self.by_subcode.get(subcode, ()) if subcode else ()
        return next((row for row in rows if _explains(row, code)), None)

    def lookup_family(self, subcode: int | None) -> tuple[TelephoneFamily, SipCodes, int] | None:
        """Return the telephone family of a subcode, the meaning of its SIP code, and that code."""
        if subcode is None:
            return None
        prefix, sip = divmod(subcode, _FAMILY_SIZE)
        family = next((family for family in self.families if family.prefix == prefix), None)
        meaning = next((codes for codes in self.sip_codes if codes.first <= sip <= codes.last), None)
        return (family, meaning, sip) if family and meaning else None

    def lookup_code(self, code: int | None) -> CitedMeaning | None:
        """Return the meaning of a code without a subcode: its own row, or that of its range."""
        if code is None:
            return None
        return self.by_codes.get((code, None)) or next(
            (each for each in self.classes if each.first <= code <= each.last), None
        )

    def is_known(self, code: int | None, subcode: int | None) -> bool:
        """True if there is a row or a telephone family for these codes."""
        return self.lookup(code, subcode) is not None or self.lookup_family(subcode) is not None


def _explains(row: CodeEntry, code: int | None) -> bool:
    if row.exact_code:
        return code is None
    return not (row.is_success and code is not None and code >= SUCCESS_BELOW)


@cache
def catalogue() -> Catalogue:
    """Return the catalogue. The first call reads it from its file."""
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    entries = tuple(_parse_row(CodeEntry, row) for row in data["codes"])
    named = tuple(_parse_row(NamedReason, row) for row in data["terminationReasons"])
    by_subcode: dict[int, tuple[CodeEntry, ...]] = {}
    for entry in entries:
        if entry.subcode is not None:
            by_subcode[entry.subcode] = (*by_subcode.get(entry.subcode, ()), entry)
    return Catalogue(
        version=data["version"],
        sources={name: Document(**source) for name, source in data["sources"].items()},
        categories=data["categories"],
        symptoms=data["symptoms"],
        fault_owners=data["faultOwners"],
        entries=entries,
        classes=tuple(_parse_row(CodeRange, row) for row in data["codeClasses"]),
        families=tuple(_parse_row(TelephoneFamily, row) for row in data["telephoneFamilies"]),
        sip_codes=tuple(_parse_row(SipCodes, row) for row in data["sipCodes"]),
        named=named,
        by_codes={(entry.code, entry.subcode): entry for entry in entries},
        by_subcode=by_subcode,
        by_name={name.termination_reason.casefold(): name for name in named},
        by_word={row["word"]: _parse_row(KeepAliveFailure, row) for row in data["keepAliveFailures"]},
    )


def _parse_row[Row](kind: type[Row], row: Mapping[str, object]) -> Row:
    values = {to_snake(name): tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    assert values.keys() <= {field.name for field in fields(kind)}  # type: ignore[arg-type] # noqa: S101 all are dataclasses
    return kind(**values)
