"""The example workflow for users: its commands are callbench's."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from fixtures.storage.files import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "callbench.yml").read_text())
STEPS = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
TESTS = [run for run in STEPS if run.startswith("python -m pytest")]


@pytest.mark.parametrize("run", TESTS, ids=["replay", "gate"])
def test_the_workflows_tests_are_collected(run, tmp_path):
    settings = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "CALLBENCH_ENDPOINT": "http://127.0.0.1:1/v1",
                "CALLBENCH_MODEL": "served"}  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    outputs = re.sub(r"(--junitxml|--json) (\S+)", rf"\1 {tmp_path}/\2", run)
    command = outputs.replace("python", sys.executable, 1) + " --collect-only -q"
    found = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment | settings, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "bench/test_" in found.stdout


def test_the_workflow_names_no_key_but_a_secret():
    assert "${{ secrets.OPENAI_API_KEY }}" in WORKFLOW["jobs"]["endpoint"]["env"].values()
    assert not any("secrets." in run for run in STEPS)
