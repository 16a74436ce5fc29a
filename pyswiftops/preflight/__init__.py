"""Verdicts before a launch: facts of all nodes and the plan in, findings out. Pure."""
