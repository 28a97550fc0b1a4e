"""What can be set of the sets that are optimised for a network."""

from typing import Annotated

from pydantic import Field

from lib.common.options import Count, option, options


@options
class ZeroQOptions:
    """Images optimised to match batch normalisation statistics (Cai et al. 2020)."""

    per_class: Count = option(10, "images per class for zeroq, optimised for each network")
    steps: Count = option(20, "steps of that optimisation")
    batch_size: Annotated[int, Field(ge=2)] = option(
        50, "images that are optimised together, to the statistics of one batch"
    )
