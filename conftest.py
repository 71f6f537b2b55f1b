"""Loads callbench's pytest plugin (fixtures/plugin/), and sets the profiles of Hypothesis."""

import os
from pathlib import Path

from hypothesis import HealthCheck, Verbosity, settings
from hypothesis.database import DirectoryBasedExampleDatabase

pytest_plugins = ["fixtures.plugin.hooks", "fixtures.plugin.fixtures", "fixtures.plugin.terminal"]

DATABASE = DirectoryBasedExampleDatabase(".hypothesis/examples") if os.access(Path(__file__).parent, os.W_OK) else None
# Every field is explicit: a profile would otherwise inherit Hypothesis' own CI defaults.
SLOW_START = [HealthCheck.too_slow]
settings.register_profile(
    "dev", max_examples=100, deadline=None, derandomize=False, print_blob=True, database=DATABASE,
    suppress_health_check=SLOW_START, verbosity=Verbosity.normal,
)  # fmt: skip
settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, print_blob=True, database=None,
    suppress_health_check=SLOW_START, verbosity=Verbosity.normal,
)  # fmt: skip
settings.register_profile(
    "deep", max_examples=5000, deadline=None, derandomize=False, print_blob=True, database=DATABASE,
    suppress_health_check=SLOW_START, verbosity=Verbosity.normal,
)  # fmt: skip
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
