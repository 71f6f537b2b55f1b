"""Every reason for a wrong answer has a colour in the plots, and a closeness if a single call can have it."""

from typing import get_args

from fixtures.report.plots import COLOURS, NO_COLOUR
from fixtures.scoring.verdict import CLOSENESS, REASONS, Reason


def test_every_reason_has_a_colour_of_its_own():
    assert COLOURS.keys() == set(REASONS)
    assert len({*COLOURS.values(), NO_COLOUR}) == len(COLOURS) + 1


def test_closeness_ranks_the_reasons_that_a_single_call_can_have():
    whole_answer = {"ok", "parse_error", "server_error", "truncated", "abstained", "hallucinated_call", "call_count"}
    assert CLOSENESS.keys() == set(get_args(Reason)) - whole_answer
    assert sorted(CLOSENESS.values()) == list(range(1, len(CLOSENESS) + 1))
