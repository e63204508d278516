"""One file per DVC stage: read, call, write atomically. The only code that touches artefact files."""
