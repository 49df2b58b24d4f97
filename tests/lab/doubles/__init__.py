"""Files that stand in for what this machine cannot have. Each says that it is a double."""
