"""Checkpoints over all nodes: what there is, what may go, and where it is brought."""
