"""The catalogue of images, and how one comes to be on the host.

ref = ensure(engine, remote, wish_of(project, host, places), capabilities, report=report)
"""

from __future__ import annotations

from remotedl.images.ensure import ensure
from remotedl.images.wish import HostCapabilities, ImageRef, ImageWish, wish_of

__all__ = ["HostCapabilities", "ImageRef", "ImageWish", "ensure", "wish_of"]
