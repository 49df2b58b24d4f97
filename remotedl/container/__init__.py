"""The place where the work runs: a container, or a native venv in its stead."""
