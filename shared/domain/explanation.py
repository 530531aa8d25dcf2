"""Explanations why a call ended: rules over the catalogue. The same facts always give the same explanation.

The first rule that fits counts: our own hang-up; the row of the codes; the telephone family; the DiagCode of the
message, if the codes mean nothing by themselves; Graph's older word; the code alone. A success explains no failure.
"""

import re
from dataclasses import dataclass, replace

from shared.domain.termination import SUCCESS_BELOW, UNKNOWN, CitedMeaning, CodeEntry, Meaning, catalogue

NO_REASON_GIVEN = "Graph gave no reason."
ASK_SUPPORT = (
    "Keep the call id, the call chain id, the codes and the message. Try again, and open a support case with them "
    "if the failure persists."
)
NO_NOTIFICATION = "Check that the bot's callbackUri is Call Keeper's webhook, and that its notifications arrive."
NOTHING_TO_DO = "Nothing to do."
BOT_IS_CALLEE = (
    "Here the bot is the callee: check that it answers the incoming notification within 15 seconds, and that "
    "Microsoft reaches its media port."
)
MIN_TELEPHONE_SUBCODE = 500_000  # subcodes of six digits from here on are those of telephone legs, or of media
_DIAG_CODE = re.compile(r"DiagCode:\s*([0-9]{1,10})#([0-9]{1,10})", re.ASCII | re.IGNORECASE)
_HTTP_AND_SIP_CODES = range(100, 700)
NOT_REACHED = "notReached"
COMPLETION_REASONS = {  # recordOperation page (beta) and the Call Automation codes: v1.0 leaves completionReason out
    8508: "operationCanceled",
    8509: "maxSilenceTimeout",
    8510: "initialSilenceTimeout",
    8511: "playPromptFailed",
    8512: "playBeepFailed",
    8513: "mediaReceiveTimeout",
    8514: "stopToneDetected",
    8515: "maxRecordDurationReached",
}
_SUBCODES_BY_REASON = {reason: subcode for subcode, reason in COMPLETION_REASONS.items()}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why: a sentence, a category of the catalogue, what to do, who can change it, and if a retry may succeed."""

    reason: str
    category: str
    action: str | None = None
    fault_owner: str = UNKNOWN
    retryable: bool = False


LOST_OPERATION = Explanation(
    "The call ended before Graph reported the result of the operation.",
    "operation",
    "Finish a recording before the call is hung up; Graph discards recordings soon after the end.",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """Graph's report of an end: codes (as text if they are not numbers), older word, message."""

    code: int | str | None = None
    subcode: int | str | None = None
    termination_reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """The facts about the call that do not come with its end.

    `hung_up_by`: the requester of our hang-up that Graph accepted. `not_found_for`: the requester of our hang-up that
    Graph answered with 404. `by_notification`: a notification reported the end; otherwise Graph answered 404.
    """

    incoming: bool = False
    ever_established: bool = False
    hung_up_by: str | None = None
    not_found_for: str | None = None
    by_notification: bool = True


def explain(
    code: int | str | None,
    subcode: int | str | None,
    termination_reason: str | None = None,
    message: str | None = None,
    context: Context | None = None,
) -> Explanation:
    """Return why a call ended.

    Parameters
    ----------
    code, subcode
        As Graph gave them: numbers, or text that is not a number, or None.
    termination_reason
        Graph's older word, e.g. `AppTransferred`. It counts if the codes are not in the catalogue.
    message
        Graph's message. Its DiagCode counts if the codes mean nothing by themselves.
    context
        What is known about the call.

    Returns
    -------
    What the catalogue says. If it has no row: Graph's values, the category `unknown`, and advice on what to keep.
    """
    facts, context = Facts(code, subcode, termination_reason, message), context or Context()
    if context.hung_up_by is not None:
        return Explanation(f"Hung up through Call Keeper by {context.hung_up_by}.", "byBot", NOTHING_TO_DO, "bot")
    found = _by_codes(facts) or _by_name(facts) or _by_code_alone(facts)
    if found is None:
        return _without_codes(facts, context)
    return _for_callee(found, _number(subcode)) if context.incoming else found


def explain_keep_alive(word: str, status: int | None, subcode: int | None) -> Explanation:
    """Return why a keepAlive failed: by Graph's codes if they are in the catalogue, else by the reason on record.

    `word` is that reason, such as `throttled`.
    """
    meant = catalogue().by_word.get(word)
    if word in {"forbidden", "rejected"}:
        row = catalogue().lookup(status, subcode)
        return _explanation_of(row) if row else _explanation_of(meant) if meant else explain(status, subcode)
    return _explanation_of(meant) if meant else explain(status, subcode)


def explain_operation(facts: Facts, completion_reason: str | None) -> Explanation:
    """Return why an operation failed: by its codes, else by its `completionReason`."""
    subcode = facts.subcode
    if subcode is None and completion_reason in _SUBCODES_BY_REASON:
        subcode = _SUBCODES_BY_REASON[completion_reason]
    return explain(facts.code, subcode, None, facts.message)


def explanation_rank(code: int | None, subcode: int | None, message: str | None) -> int:
    """Return how well the codes explain an end: 0 a precise row, 1 a DiagCode, 2 a generic row, 3 not at all."""
    row = catalogue().lookup(code, subcode)
    if (row and not row.generic) or (row is None and catalogue().lookup_family(subcode)):
        return 0
    if _by_diag_code(Facts(code, subcode, None, message)):
        return 1
    return 2 if row else 3


def _by_codes(facts: Facts) -> Explanation | None:
    code, subcode = _number(facts.code), _number(facts.subcode)
    row = catalogue().lookup(code, subcode)
    if row and not row.generic:
        return _explanation_of(row)
    return _by_telephone_family(subcode) or _by_diag_code(facts) or _by_generic_row(row, facts)


def _by_generic_row(row: CodeEntry | None, facts: Facts) -> Explanation | None:
    """Explain by the generic row, or by the code of the DiagCode if that is another: it is more precise."""
    if row is None:
        return None
    found = _parse_diag_code(facts.message)
    if (
        found
        and found[0] is not None
        and found[0] != _number(facts.code)
        and (alone := catalogue().lookup_code(found[0]))
    ):
        return _explanation_of(alone)
    return _explanation_of(row)


def _by_telephone_family(subcode: int | None) -> Explanation | None:
    found = catalogue().lookup_family(subcode)
    if found is None:
        return None
    family, codes, sip = found
    reason = f"The telephone side of the {family.leg} call answered with SIP {sip}: {codes.meaning}."
    action = f"Read the log of the SBC or of the telephone provider for SIP {sip}, then call again."
    return Explanation(reason, codes.category, action, codes.fault_owner, codes.retryable)


def _by_diag_code(facts: Facts) -> Explanation | None:
    """Explain by the DiagCode of the message, e.g. 480#10037 with 500/9999. A success there explains no failure."""
    found, given = _parse_diag_code(facts.message), _number(facts.code)
    if found is None:
        return None
    row = catalogue().lookup(*found)
    if row is None:
        return _by_telephone_family(found[1])
    if row.generic or (row.is_success and given is not None and given >= SUCCESS_BELOW):
        return None
    return _explanation_of(row)


def _parse_diag_code(message: str | None) -> tuple[int | None, int] | None:
    found = _DIAG_CODE.search(message) if message else None
    if found is None:
        return None
    code = int(found[1])  # the first number may be a subcode: 3002#7106
    return code if code in _HTTP_AND_SIP_CODES or code == 0 else None, int(found[2])


def _by_name(facts: Facts) -> Explanation | None:
    """Explain by Graph's older word, unless the codes mean more, or mean a failure where the word means success."""
    name = catalogue().by_name.get(facts.termination_reason.casefold()) if facts.termination_reason else None
    code = _number(facts.code)
    if name is None or (code is not None and code >= SUCCESS_BELOW):
        return None
    if name.category == UNKNOWN and (facts.code is not None or facts.subcode is not None):
        return None
    return _explanation_of(name)


def _by_code_alone(facts: Facts) -> Explanation | None:
    code, subcode = _number(facts.code), facts.subcode
    alone = catalogue().lookup_code(code)
    if alone is None:
        return None
    if subcode is None:
        return _explanation_of(alone)
    return replace(_explanation_of(alone), reason=f"{alone.reason[:-1]}, not its subcode {subcode}.")


def _without_codes(facts: Facts, context: Context) -> Explanation:
    if given := _list_given(facts):
        return Explanation(f"Graph gave {given}, which is not in the catalogue.", UNKNOWN, ASK_SUPPORT)
    if context.not_found_for is not None:
        reason = (
            f"The call was already over when {context.not_found_for} hung up through Call Keeper; Graph gave no reason."
        )
        return Explanation(reason, UNKNOWN, NO_NOTIFICATION)
    if context.incoming and not context.ever_established:
        reason = "The incoming call was rejected, redirected or not answered in time; Graph gave no reason."
        return Explanation(reason, NOT_REACHED, BOT_IS_CALLEE, "bot")
    return Explanation(NO_REASON_GIVEN, UNKNOWN, ASK_SUPPORT if context.by_notification else NO_NOTIFICATION)


def _for_callee(found: Explanation, subcode: int | None) -> Explanation:
    """Replace advice to call again: for an incoming call the bot is the callee. Telephone legs keep their advice."""
    is_telephone = subcode is not None and subcode >= MIN_TELEPHONE_SUBCODE
    if found.category != NOT_REACHED or is_telephone or found.action == NOTHING_TO_DO:
        return found
    return replace(found, action=BOT_IS_CALLEE, fault_owner="bot", retryable=False)


def _explanation_of(row: Meaning | CitedMeaning) -> Explanation:
    return Explanation(row.reason, row.category, row.action, row.fault_owner, row.retryable)


def _number(given: int | str | None) -> int | None:
    return given if isinstance(given, int) else None


def _list_given(facts: Facts) -> str:
    given = (("code", facts.code), ("subcode", facts.subcode), ("terminationReason", facts.termination_reason))
    return ", ".join(f"{name} {value}" for name, value in given if value is not None)
