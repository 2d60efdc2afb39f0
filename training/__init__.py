"""Training and evaluation: dataset -> model -> losses -> trainer -> evaluation. Owns torch."""
