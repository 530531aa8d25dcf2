"""Checks that each answer of a management route passes, for any request."""

from typing import Any

import httpx
import schemathesis
from schemathesis import CheckContext, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


def invalid_data_rejection(context: CheckContext, response: Response, case: schemathesis.Case[Any]) -> bool | None:
    """Theirs, which does not know that a body may be too large before it is anything else."""
    if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return None
    return negative_data_rejection(context, response, case)


# Left out: those that try methods, keys and tokens, which the tests of the host and of authorization do; those that
# follow a resource over several requests; and positive_data_acceptance, as bounds over all metadata, the time of now
# and Graph's own refusals do not fit into a schema.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    invalid_data_rejection,
]


def is_blank(value: object) -> bool:
    """True if a query has nothing of a parameter, so that the host leaves it out. The keys of an object count."""
    return all(map(is_blank, value)) if isinstance(value, list | dict) else value in ("", None)
