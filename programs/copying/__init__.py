"""Programs at the two ends of a copy."""
