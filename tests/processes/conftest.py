"""The workspace that training tests use."""

from tests.training.conftest import workspace

__all__ = ["workspace"]
