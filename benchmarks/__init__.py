"""How fast remotedl is, beside the tools that people would use instead."""
