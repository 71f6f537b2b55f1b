"""Do the study's findings hold here, and ours? The claims are registered in claims.toml."""

import pytest

from fixtures.runs.registered import load_claims


@pytest.mark.parametrize("claim", load_claims())
def test_claims(claim, finding, decided):
    """Supported, refuted, equivalent or unresolved, as decided; a change needs a reason in claims.toml."""
    assert finding.outcome == decided.outcome, f"{finding}; it was: {decided.why}"
