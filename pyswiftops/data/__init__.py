"""Training data: what ms-swift makes of the rows. Modules here also run on nodes."""
