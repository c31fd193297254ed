"""Rules that the API server checks beyond the schema, a file per subject."""
