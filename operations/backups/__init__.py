"""What is in a backup, and plans of a restore."""
