"""One composed affine warp per image, from the source straight to the canvas, and the views for prediction."""
