"""Each fault, brought about in a healthy set-up, is the only one that the doctor reports."""

import pytest

from doctor.runner import CHECKS
from tests.doctor.fault_scenarios import DEPLOYED, LOCAL, Scenario, scenarios
from tests.doctor.world import SITE, World, fault_names, skipped


def _cases(table: dict[str, list[Scenario]]) -> list[object]:
    return [
        pytest.param(name, scenario, id=f"{name}: {scenario.__name__.strip('_')}")
        for name, scenario in scenarios(table)
    ]


@pytest.mark.parametrize(("name", "scenario"), _cases(LOCAL))
async def test_only_the_fault_on_a_laptop_is_reported(world: World, name: str, scenario: Scenario) -> None:
    plan = world.local()
    scenario(world, plan)
    assert fault_names(await world.run_checks(plan)) == {name}


@pytest.mark.parametrize(("name", "scenario"), _cases(DEPLOYED))
async def test_only_the_fault_in_azure_is_reported(world: World, name: str, scenario: Scenario) -> None:
    plan = world.deployed()
    scenario(world, plan)
    assert fault_names(await world.run_checks(plan)) == {name}


def test_every_known_fault_has_a_scenario() -> None:
    assert {fault.name for check in CHECKS for fault in check.faults} == {*LOCAL, *DEPLOYED}


async def test_a_healthy_laptop_gives_no_finding(world: World) -> None:
    plan = world.local()
    plan.without = set()
    results = await world.run_checks(plan)
    assert fault_names(results) == set()
    assert skipped(results) == {}


async def test_an_app_with_nested_properties_is_read_too(world: World) -> None:
    plan = world.deployed()
    top = {name: SITE[name] for name in ("name", "identity")}
    properties = {name: value for name, value in SITE.items() if name not in top} | {"state": "Stopped"}
    world.az.answer("functionapp show", top | {"properties": properties})
    plan.only = {"deployment", "python"}
    assert fault_names(await world.run_checks(plan)) == {"app-stopped"}


async def test_a_healthy_app_in_azure_gives_no_finding(world: World) -> None:
    results = await world.run_checks(world.deployed())
    assert fault_names(results) == set()
    assert set(skipped(results)) == {"token", "permission", "consent"}  # only the app can use its identity
