"""How good a model is: its decoder's edits of framed pictures, and edits of photographs as the service makes them.

decoder       the protocol for encoder and decoder, on the graphs
photographs   the protocol for edits of photographs, through the service
tally         what the judge sees after edits, and what it sees besides
selection     which pictures are edited how
realism       kernel distances of edited pictures to real ones, in the features of `inception`
references    the real ones
locality      what changes away from the face, and where nothing should
masks         where a bundle's editor does nothing
identity      whether it is still the same person
offering      which edits are not good enough to be offered
editing       the service that makes the edits
material      pictures and judges of the protocol for photographs
report        JSON and Markdown; `photographs_tables` those of the protocol for photographs
"""

from training.evaluation.decoder import (
    evaluate,
    graph_hashes,
    inverted,
    judge_edits,
    markdown,
    residual_edit,
)

__all__ = ["evaluate", "graph_hashes", "inverted", "judge_edits", "markdown", "residual_edit"]
