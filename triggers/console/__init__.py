"""The operator's page: HTML from the same workflows as the HTTP API."""
