"""`python -m pipeline`: what dvc.yaml calls, so that the code in the working directory is the code that runs."""

from pipeline.cli import main

main()
