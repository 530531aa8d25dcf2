"""The rule that each parametrized case has a readable id."""

import re
from collections.abc import Mapping
from enum import Enum

READABLE = str | int | float | complex | Enum | type | None  # pytest writes these values into the id


def unreadable_parts(case_id: str, params: Mapping[str, object]) -> list[str]:
    """Return the parts of a case's id that do not describe the case.

    pytest numbers a value that it cannot write, for example `case0` or `body3`, and names each lambda `<lambda>`.

    Parameters
    ----------
    case_id
        The part of a test's name in brackets.
    params
        The values of the case by the name of their argument.
    """
    numbered = [
        part[0].strip("-")
        for name, value in params.items()
        if not isinstance(value, READABLE) and (part := re.search(rf"(?:^|-){re.escape(name)}\d+(?=-|$)", case_id))
    ]
    return [*numbered, *re.findall(r"<lambda>\d*", case_id)]
