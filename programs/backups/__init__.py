"""Programs that make, keep, prove and restore backups."""
