"""Docker images in a store of blobs: one blob lies there once, whoever shares it."""
