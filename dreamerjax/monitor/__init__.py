"""What watches a run: pure functions and folds, metrics in, findings out."""
