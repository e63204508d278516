"""Typed sections of params.yaml, one file each, so that a stage depends only on the sections that it reads."""
