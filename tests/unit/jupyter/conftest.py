"""What an image's Jupyter gets is no package of ours: it is imported from where it lies."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "dockerfiles" / "base" / "jupyter"
sys.path.append(str(FOLDER))
