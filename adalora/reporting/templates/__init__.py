"""The report's page, as a Jinja template with its style and script."""
