"""Each fault, seeded into a healthy set-up, is named, and nothing else is."""

import pytest

from doctor.examination import CHECKS
from tests.doctor.seeds import DEPLOYED, LOCAL, Seed, seeds
from tests.doctor.world import SITE, World, named, skipped


def _cases(table: dict[str, list[Seed]]) -> list[object]:
    return [pytest.param(name, seed, id=f"{name} {seed.__name__.strip('_')}") for name, seed in seeds(table)]


@pytest.mark.parametrize(("name", "seed"), _cases(LOCAL))
async def test_a_fault_on_a_laptop_is_named_and_nothing_else(world: World, name: str, seed: Seed) -> None:
    plan = world.local()
    seed(world, plan)
    assert named(await world.examine(plan)) == {name}


@pytest.mark.parametrize(("name", "seed"), _cases(DEPLOYED))
async def test_a_fault_in_azure_is_named_and_nothing_else(world: World, name: str, seed: Seed) -> None:
    plan = world.deployed()
    seed(world, plan)
    assert named(await world.examine(plan)) == {name}


def test_every_fault_that_the_doctor_knows_is_seeded() -> None:
    assert {fault.name for check in CHECKS for fault in check.faults} == {*LOCAL, *DEPLOYED}


async def test_a_healthy_laptop_gives_no_finding(world: World) -> None:
    plan = world.local()
    plan.without = set()
    results = await world.examine(plan)
    assert named(results) == set()
    assert skipped(results) == {}


async def test_an_app_that_az_shows_with_its_properties_a_level_deeper_is_read_too(world: World) -> None:
    plan = world.deployed()
    top = {name: SITE[name] for name in ("name", "identity")}
    properties = {name: value for name, value in SITE.items() if name not in top} | {"state": "Stopped"}
    world.az.answer("functionapp show", top | {"properties": properties})
    plan.only = {"deployment", "python"}
    assert named(await world.examine(plan)) == {"app-stopped"}


async def test_a_healthy_app_in_azure_gives_no_finding(world: World) -> None:
    results = await world.examine(world.deployed())
    assert named(results) == set()
    assert set(skipped(results)) == {"token", "permission", "consent"}  # the identity is the app's alone
