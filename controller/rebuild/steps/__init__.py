"""The steps of a rebuild and of a full wipe, each in the file named after it."""
