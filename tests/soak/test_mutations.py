"""A proof that cannot fail proves nothing: without any one of its safeties the keeper is caught."""

from collections.abc import Iterator

import pytest

from soak.checker import Findings
from soak.presets import PRESETS
from soak.runner import live
from tests.docs.documents import read, rows, section
from tests.soak.mutations import MUTATIONS, Mutation


def lived(mutation: Mutation) -> Iterator[Findings]:
    return (live(seed, PRESETS[mutation.preset])[0] for seed in range(mutation.seeds))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.take.__name__)
def test_without_this_safety_a_violation_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.take(monkeypatch)
    assert any(findings.violations for findings in lived(mutation))


@pytest.mark.parametrize("preset", sorted({mutation.preset for mutation in MUTATIONS}))
def test_with_all_of_them_the_same_lives_are_flawless(preset: str) -> None:
    seeds = max(mutation.seeds for mutation in MUTATIONS if mutation.preset == preset)
    found = [live(seed, PRESETS[preset])[0].violations for seed in range(seeds)]
    assert found == [[]] * seeds


def test_the_page_names_the_safeties_that_are_taken_away() -> None:
    told = [(row[0], row[1].strip("`")) for row in rows(section(read("docs/reliability.md"), "Can it fail?"))]
    assert told == [(mutation.safety, mutation.preset) for mutation in MUTATIONS]
