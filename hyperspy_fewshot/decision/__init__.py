"""From the embeddings of the shots to labels: kernel ridge, calibration, rejection."""
