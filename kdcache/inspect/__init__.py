"""What people look at: summaries, plots and reports of a cache."""
