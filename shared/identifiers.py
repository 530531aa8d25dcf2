"""GUIDs as Entra writes them."""

import re

NOT_A_GUID = "must be a GUID such as 11111111-2222-3333-4444-555555555555"
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_guid(text: str) -> bool:
    """Whether this is a hyphenated GUID, in either case."""
    return _GUID.fullmatch(text) is not None


def canonical_guid(text: str) -> str:
    """The GUID in lower case.

    Raises
    ------
    ValueError
        It is none.
    """
    if not is_guid(text):
        raise ValueError(NOT_A_GUID)
    return text.lower()


def lower_guids(text: str) -> str:
    """The text with every GUID in it in lower case, the rest as it is."""
    return _GUID.sub(lambda found: found[0].lower(), text)


def canonical_issuer(text: str) -> str:
    """An issuer as it is compared: GUIDs in lower case, without the slash at its end that some tokens have."""
    return lower_guids(text).removesuffix("/")


def guids_in(text: str) -> frozenset[str]:
    """The GUIDs that stand in the text, in lower case."""
    return frozenset(map(str.lower, _GUID.findall(text)))
