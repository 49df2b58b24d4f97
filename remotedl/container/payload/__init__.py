"""Programs that run on the host or in the container: Python 3.8, standard library only.

They are shipped as single files into the run folder, so none of them imports another.
"""
