"""Reporting: tables, statistics, verdicts and reports, from result files."""
