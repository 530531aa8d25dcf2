"""The Python bot's cache of signing keys. jose has one of its own, which the TypeScript bot uses."""

import importlib.util
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import ModuleType
from unittest.mock import patch

import aiohttp
import jwt
import pytest
from aiohttp import web

from tests.examples.bots import BOTS
from tests.support.http_server import Quiet, serving
from tests.system.attacks.keys import jwk

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"


class Published(Quiet, BaseHTTPRequestHandler):
    """Serves metadata and the keys of this class, and counts the fetches. Without keys it answers 503."""

    keys: tuple[str, ...] = ()
    fetches = 0

    def do_GET(self) -> None:
        kind = type(self)
        documents = {
            "/metadata": {"issuer": "https://issuer/{tenantid}", "jwks_uri": f"http://{self.headers['Host']}/keys"},
            "/keys": {"keys": [jwk(name) for name in kind.keys]},
        }
        kind.fetches += self.path == "/keys"
        content = json.dumps(documents[self.path]).encode()
        self.send_response(200 if kind.keys else 503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def senders() -> ModuleType:
    """Return the bot's module, which is in no package."""
    spec = importlib.util.spec_from_file_location("senders", BOTS / "python" / "senders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def address() -> Iterator[str]:
    Published.keys, Published.fetches = ("first",), 0
    with serving(Published) as address:
        yield address


async def test_keys_are_fetched_again_for_a_new_key_and_with_age(senders: ModuleType, address: str) -> None:
    with patch.object(senders.time, "monotonic") as clock:
        clock.return_value = 0.0
        async with aiohttp.ClientSession() as session:
            keys = senders.KeySet(session, f"{address}/metadata")
            assert (await keys.find("first", TENANT))[1] == f"https://issuer/{TENANT}"
            Published.keys = ("first", "next")
            with pytest.raises(jwt.InvalidTokenError):
                await keys.find("next", TENANT)
            assert Published.fetches == 1  # 30 s have not passed
            clock.return_value = senders.MIN_KEY_AGE + 1
            await keys.find("next", TENANT)
            Published.keys = ("next",)
            await keys.find("first", TENANT)
            assert Published.fetches == 2
            clock.return_value += senders.MAX_KEY_AGE + 1
            with pytest.raises(jwt.InvalidTokenError):
                await keys.find("first", TENANT)  # Microsoft has withdrawn it
            assert Published.fetches == 3


async def test_an_outage_is_no_forgery(senders: ModuleType, address: str) -> None:
    Published.keys = ()
    async with aiohttp.ClientSession() as session:
        keys = senders.KeySet(session, f"{address}/metadata")
        with pytest.raises(web.HTTPServiceUnavailable):
            await keys.find("first", TENANT)
        Published.keys = ("first",)
        await keys.find("first", TENANT)


async def test_known_keys_stay_in_use_during_an_outage(senders: ModuleType, address: str) -> None:
    with patch.object(senders.time, "monotonic") as clock:
        clock.return_value = 0.0
        async with aiohttp.ClientSession() as session:
            keys = senders.KeySet(session, f"{address}/metadata")
            await keys.find("first", TENANT)
            Published.keys = ()
            clock.return_value += senders.MAX_KEY_AGE + 1
            await keys.find("first", TENANT)
            clock.return_value += senders.MIN_KEY_AGE + 1
            with pytest.raises(web.HTTPServiceUnavailable):
                await keys.find("next", TENANT)
