"""Secrets from the system's keyring, for those who keep them there: never asked, never written.

The entry's service is `remotedl`, its name the question as it is asked, without what surrounds it:

    keyring set remotedl "Password of ada@mybox"

Works where the `keyring` package is installed (`pip install 'remotedl[keyring]'`); a keyring that
is locked, absent or broken is the same as one that knows nothing.
"""

from __future__ import annotations

import importlib

SERVICE = "remotedl"


def look_up(question: str) -> str | None:
    """The secret that the keyring holds for this question, or None."""
    try:
        library = importlib.import_module("keyring")
        found = library.get_password(SERVICE, entry_of(question))
    except Exception:  # noqa: BLE001  # every backend has errors of its own, and then a person is asked
        return None
    return found if isinstance(found, str) else None


def entry_of(question: str) -> str:
    """The name of a question's entry. Pure."""
    return question.strip().rstrip(":").rstrip()
