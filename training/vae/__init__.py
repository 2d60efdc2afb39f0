"""The conditional beta-VAE as a stage of training."""
