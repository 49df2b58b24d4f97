"""remotedl: one command from a laptop to a running deep-learning container on a GPU host.

Kept empty of imports: the agent's zipapp carries this package's path too.
"""

__version__ = "0.1.0"
