"""Real hosts on one machine: sshd, bad links, systemd hosts with engines, registries, mirrors.

Everything that the lab starts it also stops, everything it names carries the run's id, and its
traffic stays on loopback and on Docker networks of its own. It knows remotedl's configuration
models (to hand out a HostConfig) and nothing else of remotedl.
"""
