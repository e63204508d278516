"""The colours of all pictures."""

BLUE, GREEN, ORANGE, GREY = "#1f4e79", "#2e7d32", "#c0540a", "#8a8a8a"
