"""Statistics over few seeds: intervals, paired differences, summaries over tasks. Works on plain numbers."""
