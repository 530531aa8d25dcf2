"""The interface to Microsoft's worker library, which indexes `function_app.py` and runs its functions, as in Azure."""

import asyncio
import importlib
import json
import logging
import os
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from azure.core.exceptions import AzureError
from azure_functions_runtime import handle_event, native_invocation, start_threadpool_executor
from azure_functions_runtime.bindings.datumdef import Datum
from pydantic import ValidationError

from local.host.errors import HostError
from local.host.functions import Binding, Function, Outcome, Trace

logger = logging.getLogger("local.host")

_FRAME = re.compile(r'File "(.+)", line (\d+)')
_IMPORT_ADVICE = " Cannot find module. "  # the library prints all of sys.path after it


type Deliver = Callable[[Function, Outcome], Awaitable[None]]


async def discard(function: Function, outcome: Outcome) -> None:
    """Discard the outputs, for an app without output bindings."""


def load(root: Path) -> list[Function]:
    """Return the functions of the app in this folder. Works once per process, because the library keeps the app.

    Raises
    ------
    HostError
        There is no app, it has no functions, or the worker library refuses it as it would in Azure.
    """
    return asyncio.run(index(root))


async def index(root: Path) -> list[Function]:
    """Do the same as `load` on the running event loop, as Azure's worker does. There `asyncio.run` at import fails."""
    _use_app_folder(root)
    start_threadpool_executor()
    try:
        with _library_silenced():
            response = await handle_event.worker_init_request(_init_request(root))
    except SystemExit as error:
        raise HostError("function_app.py ended the process while it was imported: it must not call exit") from error
    if response.result.status == _Status.Failure:
        raise _load_error(root, response.result.exception.message, response.result.exception.stack_trace)
    functions = (await handle_event.functions_metadata_request(None)).function_metadata_results
    if not functions:
        raise HostError(_nothing_found(root))
    return [_function(metadata) for metadata in functions]


class Worker:
    """Invokes functions, counts those that run, and logs the result of each."""

    def __init__(self, timeout: timedelta | None, deliver: Deliver = discard) -> None:
        self._timeout = timeout.total_seconds() if timeout else None
        self._deliver = deliver
        self.running = 0

    async def invoke(
        self,
        function: Function,
        value: Datum,
        metadata: Mapping[str, Datum] | None = None,
        trace: Trace | None = None,
    ) -> Outcome:
        """Run a function once, with the value of its trigger. An exception of the function becomes an error outcome."""
        invocation_id = str(uuid.uuid4())
        started = time.monotonic()
        self.running += 1
        outcome = Outcome(error="cancelled")
        try:
            outcome = await self._run(function, invocation_id, value, metadata or {}, trace or Trace.new())
        finally:
            self.running -= 1
            _log(function, invocation_id, time.monotonic() - started, outcome)
        return outcome

    async def _run(
        self, function: Function, invocation_id: str, value: Datum, metadata: Mapping[str, Datum], trace: Trace
    ) -> Outcome:
        call = native_invocation.invocation_request_native(
            invocation_id,
            function.function_id,
            [(function.trigger.name, value)],
            metadata,
            trace_parent=trace.parent,
            trace_state=trace.state,
        )
        try:
            async with asyncio.timeout(self._timeout):
                # A separate task, so that the context variables of the library end with the invocation.
                ok, returned, outputs, error, _ = await asyncio.create_task(call)
        except TimeoutError:
            return Outcome(error=f"it ran longer than functionTimeout of host.json, {self._timeout:g} s")
        if not ok:
            return Outcome(error=error)
        return await self._delivered(function, Outcome(returned, tuple(outputs)))

    async def _delivered(self, function: Function, outcome: Outcome) -> Outcome:
        try:
            await self._deliver(function, outcome)
        except (AzureError, OSError, ValueError) as error:
            return Outcome(error=f"its output could not be sent: {error!r}")
        return outcome


def _log(function: Function, invocation_id: str, seconds: float, outcome: Outcome) -> None:
    fields: dict[str, object] = {
        "function": function.name,
        "result": "failed" if outcome.error else "succeeded",
        "duration_ms": round(seconds * 1000),
        "invocation_id": invocation_id,
    }
    if outcome.error:
        fields["error"] = outcome.error
    logger.log(logging.ERROR if outcome.error else logging.INFO, "invocation.finished", extra=fields)


class _Status(SimpleNamespace):
    """Replaces the protobuf message of this name."""

    Success = "success"
    Failure = "failure"


class _Direction(SimpleNamespace):
    """Replaces the protobuf message BindingInfo and its two enumerations, numbered as in FunctionRpc.proto."""

    undefined = 0
    out = 1
    inout = 2


class _Protos:
    """Replaces the protobuf module that the worker passes to the library. Every other message is a plain record."""

    StatusResult = _Status
    BindingInfo = _Direction

    def __getattr__(self, name: str) -> type[SimpleNamespace]:
        return SimpleNamespace


def _init_request(root: Path) -> SimpleNamespace:
    init = SimpleNamespace(capabilities={}, function_app_directory=str(root))
    return SimpleNamespace(
        request=SimpleNamespace(worker_init_request=init),
        properties={"protos": _Protos(), "host": "127.0.0.1"},
    )


def _use_app_folder(root: Path) -> None:
    """Put the app's folder last on sys.path and change to it, as in Azure, where a package can shadow the app's own."""
    entries = {Path.cwd().resolve(), root.resolve()}
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in entries] + [str(root)]
    importlib.invalidate_caches()
    os.chdir(root)


def _load_error(root: Path, message: str, trace: str) -> HostError:
    """Return an error with the cause and the app's line that led to it, without the library's long advice."""
    cause = " ".join(message.partition(_IMPORT_ADVICE)[0].split()).rstrip(".")
    frames = [(Path(file), line) for file, line in _FRAME.findall(trace) if _is_in_app(Path(file), root)]
    location = f" ({frames[-1][0].relative_to(root)}, line {frames[-1][1]})" if frames else ""
    return HostError(
        f"the worker cannot load the app, which would have no functions in Azure: {cause}{location}", detail=trace
    )


@contextmanager
def _library_silenced() -> Iterator[None]:
    """Silence the library's logger. The tracebacks that it logs are repeated in one line by the error that follows."""
    library = logging.getLogger("azure.functions")
    library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(logging.NOTSET)


def _is_in_app(file: Path, root: Path) -> bool:
    return file.is_relative_to(root) and "site-packages" not in file.parts


def _nothing_found(root: Path) -> str:
    name = os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
    if not (root / name).is_file():
        return f"no {name} in {root}: give the folder of the function app with --root"
    return f"0 functions found: the app in {name} registers none. Decorate a function, or register a blueprint"


def _function(metadata: SimpleNamespace) -> Function:
    raw: Sequence[str] = metadata.raw_bindings
    try:
        bindings = tuple(Binding.model_validate(json.loads(binding)) for binding in raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise HostError(f"function {metadata.name}: {first['loc'][0]}: {first['msg']}") from error
    return Function(metadata.name, metadata.function_id, bindings, retries=metadata.retry_options is not None)
