"""Floor 3: training one fold, its weights, and prediction with them."""
