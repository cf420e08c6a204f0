"""What a run watches of itself: pure statistics, arrays in, numbers out."""
