"""Bot C of the demo: the example bot of `examples/bots/python`, which also prints a line for each request it accepts.

The line has the delivery's id and the kind of its token, never the token: `accepted notifications id=… token=graph`.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "bots" / "python" / "bot.py"
GRAPHS, OWN = "graph", "own"  # kinds of tokens: Graph's, and the one that Call Keeper requests as the bot itself


@web.middleware
async def print_accepted(request: web.Request, handler: "Handler") -> web.StreamResponse:
    """Let the bot handle a request, and print what it accepted. If the bot refuses, its handler raises."""
    answer = await handler(request)
    kind = token_kind(request.headers.get("Authorization", ""), os.environ["BOT_APP_ID"])
    print(f"accepted {request.path.strip('/')} id={request.headers.get('webhook-id')} token={kind}", flush=True)
    return answer


def token_kind(authorization: str, app_id: str) -> str:
    """Return OWN if the bot itself is the caller that the token names, else GRAPHS. The bot has verified it before."""
    claims = jwt.decode(authorization.partition(" ")[2], options={"verify_signature": False})
    return OWN if app_id in {claims.get("azp"), claims.get("appid")} else GRAPHS


def main() -> None:
    """Run the bot on BOT_PORT."""
    sys.path.insert(0, str(EXAMPLE.parent))  # it imports its neighbours by their plain names
    bot = importlib.import_module(EXAMPLE.stem)

    async def app() -> web.Application:
        made: web.Application = await bot.make_app()
        made.middlewares.append(print_accepted)
        return made

    bot.logging.basicConfig(level=bot.logging.INFO, format="%(message)s")
    web.run_app(app(), host="127.0.0.1", port=int(os.environ["BOT_PORT"]), access_log=None)


if __name__ == "__main__":
    main()
