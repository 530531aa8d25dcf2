"""GUIDs as Entra writes them, alone and inside other text."""

import re

NOT_A_GUID = "must be a GUID such as 11111111-2222-3333-4444-555555555555"
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_guid(text: str) -> bool:
    """True if the text is a hyphenated GUID, in upper or lower case."""
    return _GUID.fullmatch(text) is not None


def canonical_guid(text: str) -> str:
    """Return the GUID in lower case.

    Raises
    ------
    ValueError
        The text is not a GUID.
    """
    if not is_guid(text):
        raise ValueError(NOT_A_GUID)
    return text.lower()


def lower_guids(text: str) -> str:
    """Return the text with every GUID in it in lower case, the rest unchanged."""
    return _GUID.sub(lambda found: found[0].lower(), text)


def canonical_issuer(text: str) -> str:
    """Return an issuer in the form for comparisons: GUIDs in lower case, no final slash (some tokens have one)."""
    return lower_guids(text).removesuffix("/")


def guids_in(text: str) -> frozenset[str]:
    """Return the GUIDs in the text, in lower case."""
    return frozenset(map(str.lower, _GUID.findall(text)))
