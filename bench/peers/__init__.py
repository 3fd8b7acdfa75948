"""Scripts that run in the peers' own environments; each prints one JSON object. Nothing here imports the platform."""
