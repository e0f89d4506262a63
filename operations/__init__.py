"""How it changes: idempotent operations, one noun a file. Each reads facts, then yields what is left to do."""
