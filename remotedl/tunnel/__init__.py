"""Listening sockets on the laptop, spliced to ports on the host."""
