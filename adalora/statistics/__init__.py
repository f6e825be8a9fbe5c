"""What a few seeds tell: intervals, paired differences, and summaries over tasks. Knows numbers only."""
