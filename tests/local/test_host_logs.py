"""The local host: its log lines."""

import logging

from local.host.logs import LineFormatter


def line(*, colour: bool, level: int = logging.WARNING) -> str:
    record = logging.makeLogRecord({"name": "app", "levelno": level, "levelname": logging.getLevelName(level)})
    record.msg = "sweep.finished"
    vars(record).update(renewed=412, reason="two words", empty="", formula="a=b")
    return LineFormatter(colour=colour).format(record)


def test_fields_follow_the_message_and_are_quoted_where_they_need_it() -> None:
    _, said = line(colour=False).split(" ", 1)
    assert said == 'warning app sweep.finished renewed=412 reason="two words" empty="" formula="a=b"'


def test_only_a_terminal_sees_colours_and_only_for_what_matters() -> None:
    assert line(colour=True).startswith("\x1b[33m")
    assert "\x1b" not in line(colour=False)
    assert "\x1b" not in line(colour=True, level=logging.INFO)
