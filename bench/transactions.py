"""Counts the requests that a process sends to storage, by kind: each is a transaction that Azure bills."""

import logging
import re
from collections import Counter

_LOGGER = "azure.core.pipeline.policies.http_logging_policy"  # the SDK's last word before a request is sent
_REQUEST = re.compile(r"Request URL: '(?P<url>.*)'\s+Request method: '(?P<method>\w+)'")
_TOKENS = "/msi/token"  # asked for by the same library, but not of storage
_KINDS = (
    ("POST", r"/\$batch", "table: transaction"),
    ("POST", r"/Tables", "table: make it"),
    ("GET", r"/\w+\(\)", "table: query"),
    ("GET", r"/\w+\(PartitionKey", "table: read"),
    ("GET", r"/messages", "queue: get"),
    ("POST", r"/messages", "queue: put"),
    ("DELETE", r"/messages", "queue: delete"),
    ("PUT", r"", "queue: make it"),
)


class Transactions(logging.Handler):
    """Counts from now on, retries included; it sees what `azure-core` is about to send."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.counts: Counter[str] = Counter()
        logger = logging.getLogger(_LOGGER)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # counted, not printed
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count the record, if it tells of a request."""
        found = _REQUEST.search(record.getMessage())
        if found and _TOKENS not in found["url"]:
            self.counts[_kind(found["method"], found["url"])] += 1


def _kind(method: str, url: str) -> str:
    return next((kind for verb, path, kind in _KINDS if verb == method and re.search(path, url)), f"other: {method}")
