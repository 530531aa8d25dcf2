"""Checks that the soak can fail: if one safety of the keeper or of the relay is removed, the runs show a violation."""

from collections.abc import Iterator

import pytest

from soak.checker import Findings
from soak.presets import PRESETS
from soak.runner import run_seed
from tests.docs.documents import read, rows, section
from tests.soak.mutations import MUTATIONS as OF_THE_KEEPER
from tests.soak.mutations import Mutation
from tests.soak.relay_mutations import MUTATIONS as OF_THE_RELAY

MUTATIONS = (*OF_THE_KEEPER, *OF_THE_RELAY)


def run_preset(mutation: Mutation) -> Iterator[Findings]:
    return (run_seed(seed, PRESETS[mutation.preset])[0] for seed in range(mutation.seeds))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.safety)
def test_without_this_safety_there_is_a_violation(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.remove(monkeypatch)
    assert any(findings.violations for findings in run_preset(mutation))


@pytest.mark.parametrize("preset", sorted({mutation.preset for mutation in MUTATIONS}))
def test_with_all_safeties_the_same_runs_have_no_violation(preset: str) -> None:
    seeds = max(mutation.seeds for mutation in MUTATIONS if mutation.preset == preset)
    found = [run_seed(seed, PRESETS[preset])[0].violations for seed in range(seeds)]
    assert found == [[]] * seeds


def test_the_page_lists_the_safeties_and_their_presets() -> None:
    listed = [(row[0], row[1].strip("`")) for row in rows(section(read("docs/reliability.md"), "Can it fail?"))]
    assert listed == [(mutation.safety, mutation.preset) for mutation in MUTATIONS]
