"""What is: read-only facts about a node, one noun a file, one round trip each."""
