"""The catalogue of images, and how one comes to be on the host."""
