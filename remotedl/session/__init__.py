"""Runs the rooms in order, keeps them alive, remembers and reports."""
