"""Each fault, brought about in a healthy set-up, is the only one that the doctor reports."""

from ipaddress import ip_address

import pytest

from doctor.finding import Severity
from doctor.runner import CHECKS
from local.stack.stack import APP_ID
from shared.addresses import Address
from tests.doctor.fault_scenarios import DEPLOYED, LOCAL, Scenario, relay_to, scenarios
from tests.doctor.servers import Reply
from tests.doctor.world import FUNCTIONS, SECRET, SITE, World, fault_names, skipped


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


RELAY = ("relay_queue", "relay_timer")
BOT_URL = "https://bot.example/calls"
VAULT = "@Microsoft.KeyVault(SecretUri=https://contoso.vault.azure.net/secrets/relay)"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_bot_that_wants_a_token_gives_no_finding(world: World, status: int) -> None:
    plan = world.local()
    plan.settings |= relay_to(world.serve(lambda _method, _path: Reply(status), tls=True))
    results = await world.run_checks(plan)
    assert fault_names(results) == set()
    assert skipped(results) == {}
    notes = [found.message for result in results for found in result.findings if result.check.name.startswith("relay")]
    assert f"bot answers {status} to a request without a token" in notes
    assert f"bot: a token for {APP_ID} was issued" in notes


@pytest.mark.parametrize(
    ("to", "path", "reasons"),
    [
        pytest.param(None, None, {"relay": "bot: give one of its instances, to see its answer: --to ID"}, id="unknown"),
        pytest.param("pod-7", "/calls/pod-7", {}, id="given"),
    ],
)
async def test_an_instance_is_asked_if_the_doctor_knows_it(
    world: World, to: str | None, path: str | None, reasons: dict[str, str]
) -> None:
    asked: list[str] = []

    def answer(_method: str, path: str) -> Reply:
        asked.append(path)
        return Reply(401)

    plan = world.local()
    plan.to, plan.only = to, {"relay"}
    plan.settings |= relay_to(world.serve(answer, tls=True) + "/calls/{to}")
    results = await world.run_checks(plan)
    assert fault_names(results) == set()
    assert skipped(results) == reasons
    assert asked == ([path] if path else [])


async def test_a_bot_without_a_token_may_rely_on_signatures(world: World) -> None:
    plan = world.local()
    plan.only = {"relay tokens"}
    world.control("PUT", f"/apps/{APP_ID}", secret=SECRET, refusedAudiences={APP_ID: "notFound"})
    plan.settings |= relay_to("https://localhost:9", secretSetting="BOT_SECRET") | {"BOT_SECRET": f"whsec_{'A' * 32}"}
    (result,) = await world.run_checks(plan)
    (found,) = result.findings
    assert found.message.startswith("bot: late deliveries are only signed. No token for")
    assert result.severity is Severity.OK


async def test_wrong_settings_of_the_relay_are_reported_once(world: World) -> None:
    plan = world.local()
    plan.settings |= relay_to("http://bot.example")
    results = await world.run_checks(plan)
    assert fault_names(results) == {"setting-wrong"}
    assert skipped(results).keys() == {"relay", "relay tokens"}


async def test_a_deployed_relay_is_checked_as_far_as_the_doctor_sees(world: World) -> None:
    async def resolve(_host: str) -> tuple[Address, ...]:
        return (ip_address("10.0.0.5"),)

    world.patch("doctor.checks_relay.resolve", resolve)
    plan = world.deployed()
    world.az.answer("functionapp function list", [{"name": f"keeper/{name}"} for name in (*FUNCTIONS, *RELAY)])
    settings = {"RELAY_ALLOW_PRIVATE_ADDRESSES": "true", "BOT_SECRET": VAULT}
    plan.settings |= relay_to(BOT_URL, secretSetting="BOT_SECRET") | settings
    results = await world.run_checks(plan)
    assert fault_names(results) == set()
    reasons = {name: reason for name, reason in skipped(results).items() if name.startswith("relay")}
    assert reasons == {
        "relay": "bot: only the app's network leads to its private address",
        "relay tokens": "bot: only the app can use its managed identity; az reads its permissions instead",
    }


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
