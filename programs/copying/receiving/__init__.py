"""The end of a copy that receives, on the target: it lives for one copy and leaves nothing behind."""
