"""How the answers of facts are framed, parsed, masked and shown."""
