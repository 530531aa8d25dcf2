"""The simulator's README, held to the code: routes, options, modes, faults, and the examples as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import Route

from simulator.app import create_app
from simulator.delivery import Modes
from simulator.faults import Fault, OperationName
from simulator.graph import ROOTS
from tests.simulator.test_simulator_process import running

if TYPE_CHECKING:
    from pydantic import BaseModel

README = (Path(__file__).parents[2] / "simulator" / "README.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the table whose header line begins so, without their back quotes."""
    lines = README.partition(f"\n| {heading}")[2].splitlines()[2:]
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip().strip("|").split("|")])
    return rows


def aliases(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def served() -> list[Route]:
    return [route for route in create_app().routes if isinstance(route, Route)]


def test_every_route_is_in_the_readme_and_every_route_of_the_readme_exists() -> None:
    rows = [*table("method | path | answers"), *table("method | path | body")]
    told = {
        (row[0], row[1].replace("{calls}", root)) for row in rows for root in (ROOTS if "{calls}" in row[1] else [""])
    }
    assert told == {(method, route.path) for route in served() for method in (route.methods or set()) - {"HEAD"}}


def test_every_operation_is_named_at_the_route_that_has_it() -> None:
    imitated = [route for route in served() if not route.path.startswith("/control")]
    for method, path, _, operation in table("method | path | answers"):
        found = {
            route.name
            for route in imitated
            if route.path == path.replace("{calls}", ROOTS[0]) and method in (route.methods or set())
        }
        assert found == {operation}
    assert {row[3] for row in table("method | path | answers")} == set(OperationName)


def test_every_mode_is_in_the_readme_with_its_default() -> None:
    defaults = Modes().model_dump(by_alias=True, mode="json")
    told = {row[0]: row[1] for row in table("mode")}
    assert told == {name: value if isinstance(value, str) else f"{float(value):g}" for name, value in defaults.items()}


def test_every_member_of_a_fault_is_in_the_readme() -> None:
    assert {row[0] for row in table("member")} == aliases(Fault)


async def test_every_option_is_in_the_readme() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "simulator", "--help"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found = re.findall(r"^  (--[a-z-]+)", out.decode(), re.MULTILINE)
    assert {row[0] for row in table("option")} == set(found)


async def test_the_examples_do_what_the_readme_says() -> None:
    """Each `# →` shows a part of what the command before it prints."""
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
