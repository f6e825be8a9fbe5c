"""The report: one HTML file with verdicts, tables and figures, made from result files."""
