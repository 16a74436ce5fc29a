"""Checkpoints over a fleet: the programs that nodes run, and what the controller decides."""
