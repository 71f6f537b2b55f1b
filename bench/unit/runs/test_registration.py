"""A claim is registered, in a commit, before any result of its arms exists."""

import subprocess
from dataclasses import replace

import pytest

from fixtures import study
from fixtures.runs import provenance, registration
from fixtures.runs.registered import load_claims
from fixtures.storage.files import ROOT

RUN = "qwen2_5_coder_0_5b-study"
ROW = '{"id": "asked"}\n'
ENTRY = """[{id}]
text = "{text}"
source = "ours"
with = "sft"
without = "base"
split = "unseen_tools"
metric = "accuracy"
says = "more"
margin = {margin}
folds = 5
family = "ours"
registered = 2026-11-28
"""


class Repository:
    """A repository with a history of claims and results."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "bench").mkdir()
        (folder / "results" / RUN).mkdir(parents=True)
        self.git("init", "--quiet")

    def git(self, *arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=self.folder, check=True, capture_output=True)

    def commit(self, **files):
        for name, text in files.items():
            path = {"claims": "bench/claims.toml"}.get(name, f"results/{RUN}/{name}.jsonl")
            (self.folder / path).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")

    def problems(self):
        claims = load_claims(self.folder / "bench" / "claims.toml")
        return registration.too_late(claims.values(), RUN, self.folder, lambda split, fold: {"asked"})


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def entry(**changes):
    return ENTRY.format(**({"id": "helps", "text": "It helps.", "margin": 2.0} | changes))


def test_a_claim_before_its_results_is_in_time(repository):
    repository.commit(claims=entry())
    repository.commit(base=ROW)
    repository.commit(**{"sft-all_patterns-s0": ROW})
    repository.commit(claims=entry(text="It helps a lot."))  # other words, the same definition
    assert repository.problems() == []


@pytest.mark.parametrize("file", ["base", "sft-all_patterns-s0", "sft-all_patterns-s4"])
def test_a_claim_after_one_of_its_results_is_too_late(repository, file):
    repository.commit(**{file: ROW})
    repository.commit(claims=entry())
    (problem,) = repository.problems()
    assert problem.startswith("helps: registered by ")
    assert f"results/{RUN}/{file}.jsonl" in problem


def test_a_claim_in_the_same_commit_as_its_results_is_too_late(repository):
    repository.commit(claims=entry(), base=ROW)
    assert len(repository.problems()) == 1


def test_an_edited_margin_is_a_new_registration(repository):
    repository.commit(claims=entry())
    repository.commit(base=ROW)
    repository.commit(claims=entry(margin=4.0))
    assert len(repository.problems()) == 1


def test_results_of_other_arms_do_not_count(repository):
    repository.commit(**{"dpo-all_patterns-s0": ROW, "sft-no_parallel_multiple-s0": ROW})
    repository.commit(claims=entry())
    assert repository.problems() == []


def test_the_known_arm_of_a_claim_may_have_results_but_not_the_other(repository):
    repository.commit(base=ROW)
    repository.commit(claims=entry() + 'known = "base"\n')
    repository.commit(**{"sft-all_patterns-s0": ROW})
    assert repository.problems() == []
    repository.commit(claims=entry() + 'known = "sft"\n')
    assert len(repository.problems()) == 1


def test_answers_to_other_items_do_not_count_but_those_that_were_deleted_do(repository):
    repository.commit(base='{"id": "other"}\n')
    repository.commit(claims=entry())
    assert repository.problems() == []
    repository.commit(base=ROW)
    repository.commit(base="")
    repository.commit(claims=entry(margin=4.0))
    assert len(repository.problems()) == 1


def test_an_uncommitted_claim_is_named(repository):
    repository.commit(claims=entry(id="other"))
    (repository.folder / "bench" / "claims.toml").write_text(entry(id="other") + entry())
    assert repository.problems() == ["helps: its definition is not committed"]


def test_uncommitted_files_are_those_that_a_recording_does_not_write(repository):
    repository.commit(claims=entry())
    (repository.folder / "results" / RUN / "base.jsonl").write_text(ROW)
    assert provenance.uncommitted(repository.folder) == []
    (repository.folder / "bench" / "claims.toml").write_text("")
    assert provenance.uncommitted(repository.folder) == ["bench/claims.toml"]


def test_what_a_recording_writes_does_not_make_its_commit_dirty(repository, monkeypatch):
    """Past bug: from the second part on, the study's provenance said `-dirty`."""
    repository.commit(claims=entry(), base=ROW)
    monkeypatch.setattr(provenance.files, "ROOT", repository.folder)
    clean = provenance.provenance()["commit"]
    repository.folder.joinpath("results", RUN, "base.jsonl").write_text(ROW + ROW)
    assert provenance.provenance()["commit"] == clean
    repository.folder.joinpath("code.py").write_text("")
    assert provenance.provenance()["commit"] == f"{clean}-dirty"


def test_a_folder_without_history_is_named(tmp_path):
    with pytest.raises(provenance.HistoryError, match="git status failed"):
        provenance.uncommitted(tmp_path)


@pytest.mark.parametrize("model", sorted({claim.model for claim in load_claims().values() if claim.folds}))
def test_the_claims_of_the_study_were_registered_in_time(model):
    """Also those of other sizes of model, and those that are not decided yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository's history")
    options = replace(study.STUDY, model=model or None)
    recorded = study.recorded_study(options)

    def items(split, fold):
        return recorded.fold(fold).items.test_ids(split)

    claims = study.claims_of(options).values()
    assert registration.too_late(claims, recorded.run, ROOT, items) == []
