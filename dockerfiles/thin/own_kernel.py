"""Starts ipykernel in the image's own Python: its packages first, ours only where it has none."""

import sys

# The folder of this file would come first, and the current one must: notebooks import from there.
sys.path[0] = ""
sys.path.append("/opt/remotedl/own")

from ipykernel import kernelapp  # noqa: E402

kernelapp.launch_new_instance()
