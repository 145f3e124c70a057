"""What is written of predictions, one file a form; `outputs.registry` has them by name."""
