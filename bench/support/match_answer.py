"""The primary verdict on one answer, for tests; library code prepares an item's scorer once."""

from collections.abc import Sequence

from fixtures.data.bfcl import Call, Example
from fixtures.scoring.parse import ParseError
from fixtures.scoring.scorer import prepare_scorer
from fixtures.scoring.verdict import Verdict


def match_answer(predicted: Sequence[Call] | ParseError, example: Example) -> Verdict:
    return prepare_scorer(example).judge(predicted).primary
