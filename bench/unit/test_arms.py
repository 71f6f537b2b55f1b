"""The names of arms are written and read in one place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.arms import Arm, ArmName, Draw, Recording, arm_of

words = st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True)
methods = st.from_regex(r"[a-z0-9_]{1,6}(-[a-z0-9_]{1,6})?", fullmatch=True)  # a user's may have a hyphen
formats = st.just("") | words
arms = st.builds(Arm, st.just("my-method"), words, st.integers(0, 2**32), formats)
arms |= st.builds(Arm, words, words, st.integers(0, 99), formats) | st.builds(Arm, words, format=formats)


@given(arms)
def test_an_arm_is_read_from_its_name(arm):
    assert Arm.parse(str(arm)) == arm


@given(arms, st.just("") | words)
def test_a_recording_is_read_from_its_name(arm, draw):
    assert Recording.parse(str(Recording(arm, draw))) == Recording(arm, draw)


@given(st.builds(ArmName, methods, st.just("") | words, st.just("plain") | words, formats))
def test_a_claims_arm_is_read_from_its_name(name):
    assert ArmName.parse(str(name)) == name


@pytest.mark.parametrize("name", ["", "sft+repair", "sft@four", "sft.", "sft.a.b", "a/b-c-s1", "sft-all-s1\n", "../x"])
def test_what_is_no_name_of_an_arm(name):
    with pytest.raises(ValueError, match="is not the name of an arm"):
        Arm.parse(name)


@pytest.mark.parametrize(
    "fields",
    [
        ("a-b-s1",),
        ("sft", "four-320", 0),
        ("sft", "", 3),
        ("s/t", "four", 0),
        ("", "four", 0),
        ("sft", "four", 0, "a.b"),
    ],
)
def test_an_arm_that_cannot_be_read_back_is_refused(fields):
    """`a-b-s1` without a regime would be read as a method `a` with the regime `b`."""
    with pytest.raises(ValueError, match="cannot be named"):
        Arm(*fields)


def test_the_base_model_has_neither_regime_nor_seed():
    assert arm_of("base", "four_320", 3) == Arm("base")
    assert str(arm_of("sft", "four_320", 3)) == "sft-four_320-s3"
    assert str(arm_of("base", "four_320", 3, "native")) == "base.native"
    assert str(arm_of("sft", "four_320", 3, "native")) == "sft.native-four_320-s3"


def test_an_unnamed_draw_is_greedy():
    """Found: samples of a user's unnamed draw were recorded as the arm's own completions."""
    with pytest.raises(ValueError, match=r"samples=2.*needs a name"):
        Draw(samples=2, temperature=0.8)
