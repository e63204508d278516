"""Stage `prepare`: raw data -> data/packed, the only stage that reads the raw images."""
