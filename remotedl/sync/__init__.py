"""Two folders, one on the laptop and one on the host, kept equal without losing a byte."""
