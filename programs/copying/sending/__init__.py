"""The end of a copy that sends, on the source."""
