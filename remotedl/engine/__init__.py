"""The Docker Engine on the host, over channels of our own connection."""
