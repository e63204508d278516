"""Which pretrained weights a model starts from, as text for keys and plans."""

from importlib.metadata import version
from pathlib import Path

from pipeline.artefacts import file_digest
from pipeline.config.model import ModelConfig
from pipeline.errors import UserError


def pretrained_digest(config: ModelConfig) -> str:
    """Digest of the pretrained file, or the library and version whose own weights are taken; empty without either.

    Raises UserError where the file is missing.
    """
    if isinstance(config.pretrained, str):
        try:
            return file_digest(Path(config.pretrained))
        except OSError:
            raise UserError(f"pretrained: there is no file '{config.pretrained}'; "
                            "fix: put it there, or correct the path") from None
    if not config.pretrained:
        return ""
    library = config.net.partition(":")[0]
    return f"{library} {version(library)}"
