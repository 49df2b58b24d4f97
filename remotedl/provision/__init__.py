"""Facts, then a plan, then apply, until the plan is empty."""
