"""azd offers the regions of Flex Consumption, and docs/regions.md lists the same ones."""

import re
from pathlib import Path

from tests.docs.documents import read, section
from tests.infra.evaluate import Evaluation
from tests.infra.flex import FLEX_REGIONS
from tools.bicep_check.program import Program

PROGRAM = Program.of_folder(Path(__file__).parents[2] / "infra")
ENTRY = PROGRAM.template("main.azd.bicep")


def decoration(name: str) -> object:
    """Return the argument of a decorator of the azd template's `location`."""
    found = ENTRY.symbols["location"].decorator(name)
    assert found is not None
    return Evaluation(ENTRY).value(found.arguments[0])


def test_azd_offers_the_regions_that_have_flex_consumption() -> None:
    """azd reads `location` and its `@allowed` before it asks the user (Azure/azure-dev#2695)."""
    offered = decoration("allowed")
    assert isinstance(offered, list)
    assert offered == list(FLEX_REGIONS)
    assert decoration("metadata") == {"azd": {"type": "location"}}


def test_the_document_lists_the_regions_that_azd_offers() -> None:
    text = section(read("docs/regions.md"), "Which regions")
    listed = next(paragraph for paragraph in text.split("\n\n") if "australiaeast" in paragraph)
    assert re.findall(r"`([a-z0-9]+)`", listed) == list(FLEX_REGIONS)


def test_a_deployment_without_azd_may_go_to_any_region() -> None:
    """Azure adds regions without a new version of this project, and Azure Government has its own regions."""
    location = PROGRAM.template("main.bicep").symbols["location"]
    assert location.decorator("allowed") is None


def test_the_document_names_the_api_version_that_azure_government_must_support() -> None:
    template = PROGRAM.template("modules/function-app.bicep")
    (version,) = {
        path.partition("@")[2] for path in map(template.resource_type, template.resources) if "sites@" in path
    }
    assert f"`{version}`, the version that `infra/modules/function-app.bicep`" in section(
        read("docs/regions.md"), "Clouds"
    )
