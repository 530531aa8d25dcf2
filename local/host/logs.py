"""Log lines for a terminal: `HH:MM:SS level logger message field=value`."""

import json
import logging
import sys

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_RESET = "\x1b[0m"


class LineFormatter(logging.Formatter):
    """Formats a record as one line with its `extra=` fields at the end. A traceback follows on further lines."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._colour = colour

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line. `logging` has set `record.message` before."""
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields = "".join(
            f" {name}={_text(value)}" for name, value in extra.items() if not _is_in_message(record, name, value)
        )
        time, level = self.formatTime(record, self.datefmt), record.levelname.lower()
        line = f"{time} {level} {record.name} {record.message}{fields}"
        colour = _COLOURS.get(record.levelno) if self._colour else None
        return f"{colour}{line}{_RESET}" if colour else line


def configure(level: int) -> None:
    """Write all records of this level and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(colour=sys.stderr.isatty()))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The Azure SDK logs every request at INFO, which would be a line for each poll of a queue.
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)


def _is_in_message(record: logging.LogRecord, name: str, value: object) -> bool:
    """True if the message has the field already. Some messages repeat fields for hosts that drop `extra`."""
    return f"{name}={value}" in record.message or record.message.startswith(f"{value} ")


def _text(value: object) -> str:
    text = str(value)
    plain = text and not any(character.isspace() or character in '"=' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
