"""Do the study's findings hold here, and do ours? The claims are registered in claims.toml."""

import re

import pytest

from fixtures.runs import evidence
from fixtures.runs.registered import load_claims
from fixtures.storage.files import ROOT

pytestmark = pytest.mark.bfcl

FIRST_STUDY = "smollm2_135m-full"
QUOTED = re.compile(r"([+-]\d+\.\d+)(?: points| pts| nats/token)?\s+(\[[+-]\d+\.\d+, [+-]\d+\.\d+\])")


@pytest.mark.parametrize("claim", load_claims())
def test_claims(claim, finding, decided):
    """The outcome is still the decided one; a changed one needs an edit with a reason in claims.toml."""
    assert finding.outcome == decided.outcome, f"{finding}; decided as {decided.outcome}: {decided.why}"


def test_claims_are_quoted_in_the_readmes_as_they_were_found(bench, request):
    """A change of the statistics or of the scoring moves intervals that nobody would look up again."""
    claims = [claim for claim in load_claims().values() if FIRST_STUDY in claim.found]
    if not bench.options.replay or bench.run != FIRST_STUDY:
        pytest.skip(f"the readmes quote {FIRST_STUDY}, which only a replay measures")
    findings = request.getfixturevalue("findings")
    for claim in claims:
        seeds = findings[claim.id].measured.seeds
        if difference := evidence.differs_from_decided(bench.options, seeds, claim.found[FIRST_STUDY].seeds):
            pytest.skip(difference)
    expected = {pair for claim in claims for pair in QUOTED.findall(findings[claim.id].numbers)}
    assert len(expected) == len(claims)
    assert quoted("results/README.md", "## Findings of the first study") == expected
    assert quoted("README.md", "## Results so far") <= expected


def quoted(file, heading):
    """The differences and intervals in one section of a file."""
    section = (ROOT / file).read_text().partition(heading)[2].partition("\n## ")[0]
    return set(QUOTED.findall(section.replace("−", "-")))
