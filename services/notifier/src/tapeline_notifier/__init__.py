"""See README.md of this service."""
