"""Do the study's findings hold here, and do ours? The claims are registered in claims.toml."""

import re

import pytest

from fixtures.runs import evidence
from fixtures.runs.registered import load_claims
from fixtures.storage.files import ROOT

pytestmark = pytest.mark.bfcl

FIRST_STUDY, STUDY = "smollm2_135m-full", "qwen2_5_coder_0_5b-study"
SECTIONS = {FIRST_STUDY: "## Findings of the first study", STUDY: "## The study over folds"}  # of results/README.md
IN_SHORT = {FIRST_STUDY: "## Results so far", STUDY: "## The study over folds"}  # of README.md
QUOTED = re.compile(r"([+-]\d+\.\d+)(?: points| pts| nats/token)?\s+(\[[+-]\d+\.\d+, [+-]\d+\.\d+\])")


@pytest.mark.parametrize("claim", load_claims())
def test_claims(claim, finding, decided):
    """The outcome is still the decided one; a changed one needs an edit with a reason in claims.toml."""
    assert finding.outcome == decided.outcome, f"{finding}; decided as {decided.outcome}: {decided.why}"


def test_claims_are_quoted_in_the_readmes_as_they_were_found(bench, request):
    """A change of the statistics or of the scoring moves intervals that nobody would look up again."""
    if not bench.options.replay or bench.run not in SECTIONS:
        pytest.skip(f"the readmes quote {' and '.join(SECTIONS)}, which only a replay measures")
    claims = [claim for claim in load_claims().values() if bench.run in claim.found]
    findings = request.getfixturevalue("findings")
    for claim in claims:
        seeds = findings[claim.id].measured.seeds
        if difference := evidence.differs_from_decided(bench.options, seeds, claim.found[bench.run].seeds):
            pytest.skip(difference)
    expected = {pair for claim in claims for pair in QUOTED.findall(findings[claim.id].numbers)}
    assert len(expected) == len(claims)
    found = quoted("results/README.md", SECTIONS[bench.run])
    if bench.run == STUDY:  # what was looked for afterwards stands there, too
        assert expected <= found
    else:
        assert found == expected
    in_short = quoted("README.md", IN_SHORT[bench.run])
    assert in_short
    assert in_short <= expected


def quoted(file, heading):
    """The differences and intervals in one section of a file."""
    section = (ROOT / file).read_text().partition(heading)[2].partition("\n## ")[0]
    return set(QUOTED.findall(section.replace("−", "-")))
