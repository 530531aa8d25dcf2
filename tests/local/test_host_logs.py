"""The local host's log lines."""

import logging

from local.host.logs import LineFormatter


def line(*, colour: bool, level: int = logging.WARNING) -> str:
    record = logging.makeLogRecord({"name": "app", "levelno": level, "levelname": logging.getLevelName(level)})
    record.msg = "sweep.finished"
    vars(record).update(renewed=412, reason="two words", empty="", formula="a=b")
    return LineFormatter(colour=colour).format(record)


def test_fields_follow_the_message_and_are_quoted_if_necessary() -> None:
    _, text = line(colour=False).split(" ", 1)
    assert text == 'warning app sweep.finished renewed=412 reason="two words" empty="" formula="a=b"'


def test_only_warnings_on_a_terminal_are_coloured() -> None:
    assert line(colour=True).startswith("\x1b[33m")
    assert "\x1b" not in line(colour=False)
    assert "\x1b" not in line(colour=True, level=logging.INFO)
