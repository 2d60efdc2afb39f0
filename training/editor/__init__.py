"""The editor: a network that looks at a face and says, field by field, how to change it in its photograph.

Read in this order: model (the network and its edit fields), requests (what an edit asks for), features, critic and
classifiers (the opponent), objective (the losses), trainer (one step and its figures).
"""
