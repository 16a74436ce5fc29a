"""What users write: the fleet file and the run file, validated."""
