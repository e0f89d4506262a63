"""Lists a folder with everything in it. Copies are planned with such a listing, and proven by it."""
