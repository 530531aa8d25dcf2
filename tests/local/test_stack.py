"""The local stack: the order in which its parts end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.stack import azurite, stack
from local.stack.processes import Child, Children


def test_the_host_ends_before_its_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Child] = []
    ended: list[bool] = []

    @contextmanager
    def storage(*_: object, **__: object) -> Iterator[None]:
        yield
        ended.extend(child.returncode is not None for child in started)

    def host(_options: object, children: Children, _server: object, _folder: Path) -> Child:
        started.append(children.start("host", [sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[-1]

    monkeypatch.setattr(azurite, "serving", storage)
    monkeypatch.setattr(stack, "Stack", host)
    with stack.running(stack.Options()):
        pass
    assert ended == [True]
