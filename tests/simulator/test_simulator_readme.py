"""The simulator's README agrees with the code: routes, options, delivery settings, faults, examples."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import Route

from simulator.app import create_app
from simulator.delivery import DeliverySettings
from simulator.faults import Fault, OperationName
from simulator.graph import CALL_PATHS
from tests.simulator.test_simulator_process import running

if TYPE_CHECKING:
    from pydantic import BaseModel

README = (Path(__file__).parents[2] / "simulator" / "README.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table whose header begins with `heading`, without their back quotes."""
    lines = README.partition(f"\n| {heading}")[2].splitlines()[2:]
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip().strip("|").split("|")])
    return rows


def aliases(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def routes() -> list[Route]:
    return [route for route in create_app().routes if isinstance(route, Route)]


def test_the_readme_lists_exactly_the_routes() -> None:
    rows = [*table("method | path | response"), *table("method | path | body")]
    listed = {
        (row[0], row[1].replace("{calls}", calls))
        for row in rows
        for calls in (CALL_PATHS if "{calls}" in row[1] else [""])
    }
    assert listed == {(method, route.path) for route in routes() for method in (route.methods or set()) - {"HEAD"}}


def test_the_readme_names_the_operation_of_each_route() -> None:
    graph_and_entra = [route for route in routes() if not route.path.startswith("/control")]
    for method, path, _, operation in table("method | path | response"):
        found = {
            route.name
            for route in graph_and_entra
            if route.path == path.replace("{calls}", CALL_PATHS[0]) and method in (route.methods or set())
        }
        assert found == {operation}
    assert {row[3] for row in table("method | path | response")} == set(OperationName)


def test_the_readme_lists_each_delivery_setting_with_its_default() -> None:
    defaults = DeliverySettings().model_dump(by_alias=True, mode="json")
    listed = {row[0]: row[1] for row in table("setting")}
    assert listed == {
        name: value if isinstance(value, str) else f"{float(value):g}" for name, value in defaults.items()
    }


def test_the_readme_lists_each_member_of_a_fault() -> None:
    assert {row[0] for row in table("member")} == aliases(Fault)


async def test_the_readme_lists_each_option() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "simulator", "--help"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found = re.findall(r"^  (--[a-z-]+)", out.decode(), re.MULTILINE)
    assert {row[0] for row in table("option")} == set(found)


async def test_the_examples_print_what_the_readme_shows() -> None:
    """Each `# →` shows a part of the output of the command before it."""
    script = README.partition("```sh\n")[2].partition("```")[0]
    steps = re.sub(r"^# → (.*)$", r"printf '\\n%s\\n' '→ \1'", script, flags=re.MULTILINE)
    async with running("--quiet", "--speed", "0") as simulator:
        process = await asyncio.create_subprocess_exec(
            "bash",
            *("-e", "-c", steps),
            env=os.environ | {"SIM": simulator.http, "NO_PROXY": "*"},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    printed, expected = "", 0
    for line in out.decode().splitlines():
        if line.startswith("→ "):
            assert line.removeprefix("→ ") in printed
            printed, expected = "", expected + 1
        else:
            printed += line + "\n"
    assert expected == script.count("# →") >= 6
