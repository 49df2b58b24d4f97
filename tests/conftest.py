"""Loads the lab's fixtures for every test; see tests/lab/README.md."""

pytest_plugins = ["tests.lab.plugin"]
