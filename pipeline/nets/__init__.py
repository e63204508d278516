"""Architecture families, one per file; `registry` finds them by name without importing the others."""
