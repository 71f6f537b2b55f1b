"""Do the study's findings hold here, and ours? Registered in claims.toml before the run that decides them."""

import pytest

from fixtures.stats.claims import load_claims


@pytest.mark.parametrize("claim", load_claims())
def test_claims(claim, finding, decided):
    """Supported, refuted, equivalent or unresolved, as it was; a change needs a reason in claims.toml."""
    assert finding.outcome == decided.outcome, f"{finding}; it was: {decided.why}"
