"""What runs on the host: the standard library of Python 3.8, shipped as source."""
