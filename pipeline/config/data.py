"""`data:` and `folds:`: where the images come from, and how the rows are cut into folds."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Section


class DataConfig(Section):
    """`data:` what `prepare` reads."""

    source: Literal["digits", "folder", "csv"]
    path: str                                   # what DVC watches: a directory (or, for csv, the directory with it all)
    channels: Literal["grey", "rgb"] = "grey"
    invert: bool = False                        # store 255 - x, so that zero fill is a white image's background
    on_bad_image: Literal["error", "skip"] = "error"
    ids: Literal["stem", "path"] = "stem"       # id of cat/1.jpg: "1", or "cat/1" where names repeat between classes
    sample_submission: str | None = None        # a .csv, .csv.zip or .csv.gz below `path`: fixes ids and class order
    train_csv: str | None = None                # source csv: the table of training rows, below `path`
    test_csv: str | None = None                 # source csv: the table of test rows; null takes the rest of the images
    images: str = "."                           # source csv: folder with the images, below `path`
    id_column: str = "id"
    label_column: str = "label"
    group_column: str | None = None             # source csv: rows of one group stay in one fold

    @model_validator(mode="after")
    def _csv_needs_a_table(self) -> Self:
        if self.source == "csv" and self.train_csv is None:
            raise ValueError("source csv needs train_csv: the table with ids and labels, below data.path")
        return self

    @property
    def n_channels(self) -> int:
        """1 or 3."""
        return 1 if self.channels == "grey" else 3


class FoldsConfig(Section):
    """`folds:` scikit-learn's splitters; byte-identical images always share a fold."""

    scheme: Literal["stratified", "group", "stratified_group"] = "stratified"
    k: int = Field(5, ge=2, le=50)
    repeats: int = Field(1, ge=1, le=10)        # assignments with different seeds; OOF predictions are averaged
    group_pattern: str | None = None            # a regular expression over ids whose first group names the group
