"""The report: one HTML file with verdicts, tables and figures, from result files alone."""
