"""A pytest plugin for the fault suite: trainings write a checkpoint after every step."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    from fixtures.training import trainer  # late: MLX has to follow BLAS

    trainer.CHECKPOINT_EVERY_S = 0.0
