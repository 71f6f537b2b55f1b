"""Do the study's findings hold here, and do ours? The claims are registered in claims.toml."""

import pytest

from fixtures.runs.registered import load_claims

pytestmark = pytest.mark.bfcl


@pytest.mark.parametrize("claim", load_claims())
def test_claims(claim, finding, decided):
    """The outcome is still the decided one; a changed one needs an edit with a reason in claims.toml."""
    assert finding.outcome == decided.outcome, f"{finding}; decided as {decided.outcome}: {decided.why}"
