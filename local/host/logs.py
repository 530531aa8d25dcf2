"""Log lines for a terminal: `HH:MM:SS level logger message field=value`."""

import json
import logging
import sys

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_RESET = "\x1b[0m"


class LineFormatter(logging.Formatter):
    """One line a record, its `extra=` fields at the end; a traceback follows on lines of its own."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._colour = colour

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line itself; `record.message` is there already."""
        own = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields = "".join(f" {name}={_text(value)}" for name, value in own.items() if not _told(record, name, value))
        time, level = self.formatTime(record, self.datefmt), record.levelname.lower()
        line = f"{time} {level} {record.name} {record.message}{fields}"
        colour = _COLOURS.get(record.levelno) if self._colour else None
        return f"{colour}{line}{_RESET}" if colour else line


def configure(level: int) -> None:
    """Send all records from this level on to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(colour=sys.stderr.isatty()))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The Azure SDK tells every request at INFO: a line for each poll of a queue.
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)


def _told(record: logging.LogRecord, name: str, value: object) -> bool:
    """Whether the message says it already, as those do that are written for hosts that drop `extra`."""
    return f"{name}={value}" in record.message or record.message.startswith(f"{value} ")


def _text(value: object) -> str:
    text = str(value)
    plain = text and not any(character.isspace() or character in '"=' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
