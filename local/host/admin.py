"""The host's admin API: list the functions, run one by hand, and read the host's status."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local.host.functions import Function
from local.host.keys import AuthLevel, Keys

type Run = Callable[[str], Awaitable[object]]


class _RunRequest(BaseModel):
    """The body of `POST /admin/functions/{name}` (Learn: manually run a non HTTP-triggered function)."""

    model_config = ConfigDict(extra="ignore")

    input: str = ""


class Admin:
    """The routes `/admin/...`, which require the master key. `runs` has the coroutine of each function."""

    def __init__(self, functions: Mapping[str, Function], keys: Keys, runs: Mapping[str, Run]) -> None:
        self._functions = functions
        self._keys = keys
        self._runs = {name.lower(): run for name, run in runs.items()}
        self._running: set[asyncio.Future[object]] = set()

    async def respond(self, request: Request, path: str, key: str) -> Response:
        """Return the response to a request whose path begins with `/admin/`."""
        if not self._keys.allow(AuthLevel.ADMIN, key):
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        match request.method, path.lower().split("/")[2:]:
            case "GET", ["host", "status"]:
                return JSONResponse({"state": "Running", "version": version("azure-functions-runtime")})
            case "GET", ["functions"]:
                return JSONResponse([function.described() for function in self._functions.values()])
            case "POST", ["functions", name] if name in self._runs:
                return self._start(self._runs[name], await request.body())
        return Response(status_code=HTTPStatus.NOT_FOUND)

    def _start(self, run: Run, body: bytes) -> Response:
        try:
            run_request = _RunRequest.model_validate_json(body or b"{}")
        except ValidationError:
            return Response('send a JSON body such as {"input": "text"}', status_code=HTTPStatus.BAD_REQUEST)
        task = asyncio.ensure_future(run(run_request.input))
        self._running.add(task)  # the event loop keeps only weak references to tasks
        task.add_done_callback(self._running.discard)
        return Response(status_code=HTTPStatus.ACCEPTED)
