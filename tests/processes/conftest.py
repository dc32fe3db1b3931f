"""The workspace that training tests use."""

from tests.training.conftest import prepared, workspace

__all__ = ["prepared", "workspace"]
