"""The one door to the host. paramiko and fabric are imported in this room alone."""
