"""Fixtures of the attacks."""

from __future__ import annotations

from tests.lab_tests.sync.conftest import folders, make_folders

__all__ = ["folders", "make_folders"]
