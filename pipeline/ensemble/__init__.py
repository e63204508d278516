"""The mathematics of combining members: pure functions over arrays, no files, no torch."""
