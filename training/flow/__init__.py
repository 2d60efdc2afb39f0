"""The learned prior: latents of faces that do not exist, by flow matching on those of the training pictures."""
