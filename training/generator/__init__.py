"""The decoder trained further, with a critic on samples of the prior and on reconstructions."""
