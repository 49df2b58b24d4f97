"""Doubles: stand-ins of real edges, each named for what it stands in for.

Nothing here mocks a function of ours; a double fulfils a whole contract and passes its suite.
"""
