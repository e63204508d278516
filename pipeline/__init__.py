"""A reproducible, honest ensemble pipeline for image classification (see README.md)."""
