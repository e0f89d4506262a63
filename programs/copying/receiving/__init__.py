"""The receiver of a copy. It runs on the target, for one copy, and leaves nothing behind."""
