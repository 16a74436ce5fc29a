"""Checkpoints of a run: what is in them, and what became of them. Some modules run on nodes."""
